
# Completes the names of tenants and sinks, which the hidden command `complete` reads from the configuration.
# Everything else is completed by the generated function above.
_secure_score_forwarder_names() {
    local cur="$2" prev="$3" tenants=tenants names= name i
    local -a config=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${COMP_WORDS[i]}" in
            --config)
                # Bash separates `--config=FILE` into three words.
                name="${COMP_WORDS[i + 1]}"
                [[ "$name" != = ]] || name="${COMP_WORDS[i + 2]}"
                config=(--config "${name/#\~\//"$HOME/"}")
                ;;
            test-sink) names=sinks ;;
            # `state forget` expects the GUID of a tenant that is not configured.
            forget) tenants= ;;
        esac
    done

    [[ "$prev" != = ]] || prev="${COMP_WORDS[COMP_CWORD - 2]}"
    case "$prev" in
        --tenant) names="$tenants" ;;
        --sink) names=sinks ;;
        --config | --log | --log-format) names= ;;
    esac
    if [[ -z "$names" || "$cur" == -* ]]; then
        _secure__score__forwarder "$@"
        return
    fi

    [[ "$cur" != = ]] || cur=
    COMPREPLY=()
    while IFS= read -r name; do
        [[ "$name" != "$cur"* ]] || COMPREPLY+=("$(printf %q "$name")")
    done < <("$1" "${config[@]}" complete "$names" 2>/dev/null)
}

complete -F _secure_score_forwarder_names -o nosort -o bashdefault -o default secure-score-forwarder 2>/dev/null ||
    complete -F _secure_score_forwarder_names -o bashdefault -o default secure-score-forwarder
