#!/usr/bin/env bash
# Registers the application with which the forwarder reads Secure Score. Requires the Azure CLI, signed in
# as an administrator (`az login`). The application gets only SecurityEvents.Read.All of Microsoft Graph.
#
#   register-app.sh [--name NAME] [--multi-tenant] [--days N] [--out DIRECTORY] [--redirect-uri URI]
#                   [--cloud CLOUD] [--app-id ID [--owner OBJECT_ID]]
#
# The private key is created in DIRECTORY (default: the current one) and never leaves this host; only the
# certificate is uploaded. Only the caller may be able to write to DIRECTORY. The group of the service can
# read the key if this host has the group. N is the number of days for which the certificate is valid. URI is the page that a browser shows after consent.
# CLOUD is `global`, `us-gov-high` or `us-gov-dod`, as in the configuration.
#
# Every user of a tenant may be able to create an application, so the script never uses one that it finds by
# its name: a NAME that is taken is an error. To complete a registration of this script that failed, pass the
# ID of its application with --app-id, and the same --name, --out and --multi-tenant. The script then requires
# that the application has exactly the one permission, no credential except the certificate in DIRECTORY, and
# no owner except the account that is signed in or OBJECT_ID.
set -euo pipefail

name=secure-score-forwarder audience=AzureADMyOrg days=365 out=. cloud=global client='' owner='' staging=''
# `consent-url` uses the same URI by default.
redirect=http://localhost
group=secure-score-forwarder
usage() { sed -n '2,/^[^#]/s/^#\( \|$\)//p' "$0" >&2; exit 2; }
while [ $# -gt 0 ]; do
    case "$1" in
        --name) name="${2:?}"; shift 2 ;;
        --multi-tenant) audience=AzureADMultipleOrgs; shift ;;
        --days) days="${2:?}"; shift 2 ;;
        --out) out="${2:?}"; shift 2 ;;
        --redirect-uri) redirect="${2:?}"; shift 2 ;;
        --cloud) cloud="${2:?}"; shift 2 ;;
        --app-id) client="${2:?}"; shift 2 ;;
        --owner) owner="${2:?}"; shift 2 ;;
        *) usage ;;
    esac
done

fail() { # MESSAGE [HINT]
    echo "error: $1" >&2
    [ -z "${2:-}" ] || echo "  hint: $2" >&2
    exit 1
}
# Everything that becomes a part of a request or of a path is checked here, so that nothing has to be escaped.
matches() { [[ "$1" =~ $2 ]]; }
guid='[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}'
matches "$name" '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$' ||
    fail "\`--name\` must consist of at most 64 letters, digits, periods, hyphens and underscores"
matches "$days" '^[1-9][0-9]{0,4}$' || fail "\`--days\` must be a number of days"
matches "$redirect" '^(https://|http://localhost([:/]|$))[^"\\[:space:][:cntrl:]]*$' ||
    fail "\`--redirect-uri\` cannot be a redirect URI of the application" "use https://, or http://localhost"
[ -z "$client" ] || matches "$client" "^$guid\$" || fail "\`--app-id\` must be the application (client) ID, a GUID in lower case"
[ -z "$owner" ] || matches "$owner" "^$guid\$" || fail "\`--owner\` must be the object ID of a user, a GUID in lower case"
[ -z "$owner" ] || [ -n "$client" ] || fail "\`--owner\` requires \`--app-id\`"
case "$cloud" in
    global) endpoint=https://graph.microsoft.com cli_cloud=AzureCloud ;;
    us-gov-high) endpoint=https://graph.microsoft.us cli_cloud=AzureUSGovernment ;;
    us-gov-dod) endpoint=https://dod-graph.microsoft.us cli_cloud=AzureUSGovernment ;;
    *) fail "\`--cloud\` must be \`global\`, \`us-gov-high\` or \`us-gov-dod\`" ;;
esac
need() { command -v "$1" >/dev/null || fail "\`$1\` is not installed"; }
need az
need openssl

graph_app=00000003-0000-0000-c000-000000000000  # Microsoft Graph
role=bf394140-e372-4bf9-a898-299cfc7564e5       # SecurityEvents.Read.All, application
umask go-w
mkdir -p "$out"
out="$(cd "$out" && pwd -P)"
# A user who can write to the directory could exchange the key, or put a FIFO in its place that receives it.
[ -O "$out" ] || fail "\`$out\` belongs to another user" "use a directory that belongs to the user who runs this script"
[ -z "$(find "$out" -prune \( -perm -0020 -o -perm -0002 \))" ] ||
    fail "other users can write to \`$out\`" "use a directory with mode 0755 or 0700, or run \`chmod go-w $out\`"
# So could a user who can replace one of the directories above it. In a sticky directory, users replace only their own.
above="$(
    path="$out"
    while [ "$path" != / ]; do
        path="$(dirname "$path")"
        find "$path" -prune \( \( ! -user 0 ! -user "$EUID" \) -o \( -perm -0020 -o -perm -0002 \) ! -perm -1000 \)
    done | head -n 1
)"
[ -z "$above" ] || fail "other users can replace \`$out\`, because they can write to \`$above\`" \
    "use a directory below one that only you and root can change"
pem="$out/$name.pem"
resume="run \`register-app.sh --name $name --out $out"
[ "$audience" = AzureADMyOrg ] || resume+=" --multi-tenant"
[ "$cloud" = global ] || resume+=" --cloud $cloud"
resume+=" --app-id"
if [ -n "$client" ]; then
    [ -f "$pem" ] || fail "\`$pem\` does not exist" "set --name and --out to the values with which the application was registered"
else
    [ ! -e "$pem" ] && [ ! -L "$pem" ] || fail "\`$pem\` already exists and is not overwritten" \
        "use another --out or --name; to complete a registration that failed, $resume ID\`"
fi

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch" ${staging:+"$staging"}' EXIT
: >"$scratch/stderr"
umask 077

# Sends a request to Microsoft Graph, and prints what a JMESPath expression selects from the response, one value per
# line.
graph() { # METHOD PATH EXPRESSION [BODY]
    local body=()
    [ $# -lt 4 ] || body=(--headers Content-Type=application/json --body "$4")
    az rest --only-show-errors --method "$1" --url "$endpoint/v1.0/$2" --resource "$endpoint/" \
        ${body[@]+"${body[@]}"} --query "$3" --output tsv 2>"$scratch/stderr" </dev/null
}
# The reason of the last failure, on one line and without control characters.
reason() {
    local line
    line="$(grep -a '^ERROR: ' "$scratch/stderr" | grep -av 'Here is the traceback' | head -n 1)" || line="$(head -n 1 "$scratch/stderr")"
    line="${line:-Microsoft Graph does not return it yet}"
    LC_ALL=C tr -c '[:print:]' ' ' <<<"${line#ERROR: }" | sed 's/ *$//' | cut -c 1-300
}
is_denied() { grep -q Authorization_RequestDenied "$scratch/stderr"; }

# Repeats a command until it succeeds, for at most 77 seconds: a new object is not visible on all servers of Microsoft
# Graph immediately.
retry() {
    local wait
    for wait in 2 5 10 20 40; do
        if "$@"; then return 0; fi
        if is_denied; then return 1; fi
        sleep "$wait"
    done
    "$@"
}

# Prints the object ID and the client ID of each application with the name.
applications_named() {
    graph get "applications?\$filter=displayName%20eq%20%27$name%27&\$select=id,appId" 'value[].[id, appId]'
}

# Prints the object ID and the name of each owner of an application or a service principal.
owners_of() { # PATH
    graph get "$1/owners" "value[].[id, userPrincipalName || appId || '-']" >"$scratch/owners" || return 1
    LC_ALL=C tr -c '[:print:]\n' ' ' <"$scratch/owners"
}
list_owners() { # PATH
    local owners
    owners="$(owners_of "$1" | sed 's/^\([^ ]*\) \(.*\)/`\1` (\2)/' | paste -s -d , - | sed 's/,/, /g')" || owners=unknown
    echo "${owners:-none; only administrators can change it}"
}

# Ends the script because the name is taken by the applications in the file `others`.
reject_name() { # WHAT_HAPPENED
    echo "error: another application is named \`$name\`: $1" >&2
    while read -r other_object other_client; do
        echo "  application \`$other_client\`, owners: $(list_owners "applications/$other_object")" >&2
    done < <(head -n 10 "$scratch/others")
    echo "  hint: find out who created it and for what purpose; then delete it, or set another --name" >&2
    exit 1
}

# Succeeds if the application in `object` is the only one with the name. Ends the script if there is another one.
is_only_one() {
    applications_named >"$scratch/found" || return 1
    grep -v "^$object" "$scratch/found" >"$scratch/others" || true
    if [ -s "$scratch/others" ]; then
        [ -n "${created:-}" ] || reject_name "nothing was changed"
        if graph delete "applications/$object" @ >/dev/null; then
            rm -f "$pem"
            reject_name "it appeared during the registration; the new application was deleted, and no permission was granted"
        fi
        reject_name "it appeared during the registration; no permission was granted, but the new application \`$client\` could \
not be deleted: $(reason)"
    fi
    [ -s "$scratch/found" ]
}

# Creates the key and the certificate. The key is stored before the application is created, so that it cannot get lost.
create_certificate() {
    openssl req -x509 -newkey rsa:3072 -sha256 -nodes -days "$days" -subj "/CN=$name" \
        -keyout "$scratch/key.pem" -out "$scratch/certificate.pem" 2>"$scratch/stderr" ||
        fail "the certificate was not created: $(reason)"
    # The file is written where no other user can put anything. A hard link to it then fails if the name exists as
    # anything: a file, a link, a FIFO or a device. `ln` would create the link in a directory with this name.
    staging="$(mktemp -d "$out/.$name.XXXXXXXX")" || fail "no directory can be created in \`$out\`"
    cat "$scratch/certificate.pem" "$scratch/key.pem" >"$staging/key.pem" || fail "the key cannot be written to \`$out\`"
    link "$staging/key.pem" "$pem" 2>"$scratch/stderr" ||
        fail "\`$pem\` was not created: $(reason)" "use another --out, on a file system with hard links"
    rm -rf "$staging"
    staging=''
}

# Prints a certificate as Microsoft Graph represents it.
certificate_of() { openssl x509 -in "$1" -outform DER | openssl base64 -A; }

create_application() {
    local body
    body="{\"displayName\": \"$name\", \"signInAudience\": \"$audience\", \"web\": {\"redirectUris\": [\"$redirect\"]},
        \"requiredResourceAccess\": [{\"resourceAppId\": \"$graph_app\", \"resourceAccess\": [{\"id\": \"$role\", \"type\": \"Role\"}]}],
        \"keyCredentials\": [{\"type\": \"AsymmetricX509Cert\", \"usage\": \"Verify\", \"displayName\": \"CN=$name\", \"key\": \"$certificate\"}]}"
    if ! graph post applications '[[id, appId]]' "$body" >"$scratch/created"; then
        # After a definite rejection, the key has no use. Otherwise, the application may have been created.
        if grep -q -e '^ERROR: Bad Request' -e '^ERROR: Forbidden' -e '^ERROR: Unauthorized' "$scratch/stderr"; then
            rm -f "$pem"
            is_denied || fail "the application was not created: $(reason)"
            fail "the application was not created: $(reason)" \
                "sign in as an Application Administrator or Cloud Application Administrator"
        fi
        fail "the application may not have been created: $(reason)" \
            "if the tenant has a new application \`$name\`, $resume\` with its ID; otherwise, delete \`$pem\` and try again"
    fi
    read -r object client <"$scratch/created" || true
    matches "$object $client" "^$guid $guid\$" ||
        fail "the response to the creation of the application contains no IDs"
    created=yes
}

# Succeeds if the application in `object` can be read. Ends the script if it is not exactly what this script creates.
check_application() {
    local found_client found_audience resources roles keys key passwords found_name federated members hint
    hint="do not use this application; delete it and \`$pem\`, and register again without --app-id"
    members=appId,displayName,signInAudience,requiredResourceAccess,keyCredentials,passwordCredentials
    graph get "applications/$object?\$select=id,$members" \
        "[appId, signInAudience, join(' ', requiredResourceAccess[].resourceAppId),
          join(' ', requiredResourceAccess[].resourceAccess[].join('=', [id, type])),
          to_string(length(keyCredentials)), keyCredentials[0].key, to_string(length(passwordCredentials)), displayName]" \
        >"$scratch/application" || return 1
    {
        read -r found_client && read -r found_audience && read -r resources && read -r roles && read -r keys &&
            read -r key && read -r passwords && read -r found_name
    } <"$scratch/application" || fail "the response with the application is incomplete" "$hint"

    [ "$found_client" = "$client" ] || fail "the application \`$client\` has another ID than requested" "$hint"
    [ "$found_name" = "$name" ] || fail "the application \`$client\` is not named \`$name\`" \
        "set --name to the name with which it was registered, or register without --app-id"
    [ "$found_audience" = "$audience" ] || fail "the application \`$client\` does not have the sign-in audience \`$audience\`" \
        "set or omit --multi-tenant as when it was registered"
    [ "$resources $roles" = "$graph_app $role=Role" ] ||
        fail "the application \`$client\` requires other permissions than SecurityEvents.Read.All" "$hint"
    [ "$keys $passwords" = '1 0' ] || fail "the application \`$client\` has other credentials than one certificate" "$hint"
    # Microsoft Graph returns the certificate only to the request for a single application.
    [ -n "${created:-}" ] || [ "$key" = "$certificate" ] ||
        fail "the certificate of the application \`$client\` is not the one in \`$pem\`" "$hint"
    federated="$(graph get "applications/$object/federatedIdentityCredentials" 'value[].id')" || return 1
    [ -z "$federated" ] || fail "the application \`$client\` trusts the tokens of another issuer (federated credentials)" "$hint"
}

# Ends the script if the application or its service principal has an owner who could add a credential.
check_owners() { # PATH
    local found other
    found="$(owners_of "$1")" || fail "the owners of the application \`$client\` cannot be read: $(reason)"
    other="$(grep -v "^$owner[[:space:]]" <<<"$found" || true)"
    [ -z "$other" ] ||
        fail "the application \`$client\` has another owner than \`$owner\`: $(head -n 3 <<<"$other" | paste -s -d ' ' -)" \
        "if this user registered the application with this script, set --owner to the object ID; otherwise, delete the application and register again"
}

# Sets `object` to the application that the command line names.
find_application() {
    object="$(graph get "applications?\$filter=appId%20eq%20%27$client%27&\$select=id" 'value[].id')" ||
        fail "the application \`$client\` cannot be read: $(reason)"
    matches "$object" "^$guid\$" || fail "the tenant has no application \`$client\`"
    if [ -z "$owner" ]; then
        owner="$(graph get 'me?$select=id' id)" || fail "the account that is signed in cannot be determined: $(reason)" "set --owner"
    fi
    check_owners "applications/$object"
}

# Sets `principal` to the service principal of the application.
ensure_principal() {
    principal="$(graph get "servicePrincipals?\$filter=appId%20eq%20%27$client%27&\$select=id" 'value[].id')" || return 1
    if [ -z "$principal" ]; then
        principal="$(graph post servicePrincipals id "{\"appId\": \"$client\"}")" || return 1
        created_principal=yes
    fi
    matches "$principal" "^$guid\$"
}

# Ends the script if an existing service principal has a credential, or an owner who could add one.
check_principal() {
    local credentials
    credentials="$(graph get "servicePrincipals/$principal?\$select=id,keyCredentials,passwordCredentials" \
        'to_string(length([keyCredentials, passwordCredentials][]))')" ||
        fail "the service principal of the application \`$client\` cannot be read: $(reason)"
    [ "$credentials" = 0 ] ||
        fail "the service principal of the application \`$client\` has a credential" \
            "delete the application, and register again without --app-id"
    check_owners "servicePrincipals/$principal"
}

# Sets `resource` to the service principal of Microsoft Graph, which defines the permission.
find_resource() {
    graph get "servicePrincipals?\$filter=appId%20eq%20%27$graph_app%27&\$select=id,appRoles" \
        "value[].[id, to_string(length(appRoles[?id=='$role' && value=='SecurityEvents.Read.All' && isEnabled]))]" \
        >"$scratch/resource" || return 1
    read -r resource offered <"$scratch/resource" || return 1
    [ "$offered" = 1 ] || fail "Microsoft Graph does not offer the permission SecurityEvents.Read.All in this tenant"
}

# Succeeds if the service principal has exactly the one permission. Ends the script if it has others.
is_granted() {
    local granted
    granted="$(graph get "servicePrincipals/$principal/appRoleAssignments" "value[].join(' ', [resourceId, appRoleId])")" ||
        return 1
    [ -z "$granted" ] || [ "$granted" = "$resource $role" ] ||
        fail "the application \`$client\` has other permissions than SecurityEvents.Read.All" \
            "remove them in the Entra admin center, under Enterprise applications"
    [ -n "$granted" ]
}

grant() {
    if is_granted; then return 0; fi
    graph post "servicePrincipals/$resource/appRoleAssignedTo" id \
        "{\"principalId\": \"$principal\", \"resourceId\": \"$resource\", \"appRoleId\": \"$role\"}" >/dev/null || return 1
    is_granted
}

signed_in_to="$(az cloud show --query name --output tsv)"
[ "$signed_in_to" = "$cli_cloud" ] || fail "the Azure CLI uses the cloud \`$signed_in_to\`, not \`$cli_cloud\`" \
    "set --cloud, or run \`az cloud set --name $cli_cloud\` and \`az login\`"
tenant="$(az account show --query tenantId --output tsv)"

if [ -z "$client" ]; then
    applications_named >"$scratch/others" || fail "the applications of the tenant cannot be read: $(reason)"
    [ ! -s "$scratch/others" ] || reject_name "nothing was changed"
    create_certificate
    certificate="$(certificate_of "$scratch/certificate.pem")"
    create_application
    retry is_only_one || fail "the new application \`$client\` cannot be found: $(reason)" "$resume $client\`"
    retry check_application || fail "the new application \`$client\` cannot be read: $(reason)" "$resume $client\`"
else
    certificate="$(certificate_of "$pem")"
    find_application
    check_application || fail "the application \`$client\` cannot be read: $(reason)"
    is_only_one || fail "the applications of the tenant cannot be read: $(reason)"
fi

retry ensure_principal || fail "the service principal of the application \`$client\` was not created: $(reason)" "$resume $client\`"
[ -n "${created_principal:-}" ] || check_principal
retry find_resource || fail "the service principal of Microsoft Graph cannot be read: $(reason)" "$resume $client\`"
retry grant || fail "the permission was not granted to the application \`$client\`: $(reason)" \
    "sign in as a Privileged Role Administrator, and $resume $client\`"

# The service runs as a user of this group, and must be able to read the key.
if getent group "$group" >/dev/null 2>&1 && chgrp "$group" "$pem" 2>/dev/null; then
    chmod 640 "$pem"
    shared=yes
fi
target="/etc/secure-score-forwarder/$name.pem"
echo "The application is registered, and has exactly one permission: SecurityEvents.Read.All."
echo "Its ID is $client. Its owners are: $(list_owners "applications/$object")."
echo "Its certificate and private key are in $pem."
if [ -z "${shared:-}" ]; then
    echo "warning: the service cannot read $pem: this host has no group $group, or you are not a member" >&2
    echo "  hint: on the host of the service, as root, run: install -m 640 -g $group $(basename "$pem") $target" >&2
elif [ "$pem" != "$target" ]; then
    echo "As root, move it with its permissions: mv $pem $target"
fi
[ "$cloud" = global ] || cloud_key="
cloud = \"$cloud\""
cat <<END
Add this to the configuration:

[[tenants]]
name = "contoso"
id = "$tenant"${cloud_key:-}
[tenants.credential]
kind = "certificate"
client_id = "$client"
certificate = "$target"
END
