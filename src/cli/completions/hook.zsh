
# Complete the names of tenants and sinks, which the hidden command `complete` reads from the configuration.
# They are defined before the generated function, which this file calls at its end.
_secure_score_forwarder_names() {
    local kind=$1
    shift
    local -a typed config names
    typed=(${(Q)${(z)BUFFER}})
    local -i option=${typed[(I)--config(|=*)]}
    case ${typed[option]} in
        (--config) config=(--config "${typed[option+1]/#\~\//$HOME/}") ;;
        (--config=*) config=("${typed[option]}") ;;
    esac
    names=(${(f)"$(secure-score-forwarder $config complete $kind 2>/dev/null)"})
    compadd "$@" -a names
}

_secure_score_forwarder_tenants() {
    _secure_score_forwarder_names tenants "$@"
}

_secure_score_forwarder_sinks() {
    _secure_score_forwarder_names sinks "$@"
}
