
# Prints the names of tenants or sinks, which the hidden command `complete` reads from the configuration.
function __secure_score_forwarder_names
    set -l typed (commandline -opc)
    set -l config (string match -- '--config=*' $typed)
    if set -l option (contains -i -- --config $typed)
        set config --config (string replace -r '^~/' $HOME/ -- $typed[(math $option + 1)])
    end
    secure-score-forwarder $config complete $argv 2>/dev/null
end

complete -c secure-score-forwarder -n "__fish_secure_score_forwarder_using_subcommand test-sink" -f -a "(__secure_score_forwarder_names sinks)"
complete -c secure-score-forwarder -n "__fish_secure_score_forwarder_using_subcommand completions" -f -a "bash elvish fish powershell zsh"
# Event IDs are not files.
complete -c secure-score-forwarder -n "__fish_secure_score_forwarder_using_subcommand dead-letters" -f
