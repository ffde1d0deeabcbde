
# Prints the names of tenants or sinks, which the hidden command `complete` reads from the configuration.
function __secure_score_forwarder_names
    set -l typed (commandline -opc)
    set -l config
    if set -l option (contains -i -- --config $typed)
        set config --config $typed[(math $option + 1)]
    end
    secure-score-forwarder $config complete $argv 2>/dev/null
end

complete -c secure-score-forwarder -n "__fish_secure_score_forwarder_using_subcommand test-sink" -f -a "(__secure_score_forwarder_names sinks)"
