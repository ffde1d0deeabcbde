#!/usr/bin/env bash
# Registers the application with which the forwarder reads Secure Score. Requires the Azure CLI, signed in
# as an administrator (`az login`). The application gets only SecurityEvents.Read.All of Microsoft Graph.
#
#   register-app.sh [--name NAME] [--multi-tenant] [--days N] [--out DIRECTORY] [--redirect-uri URI]
#
# The private key is created in DIRECTORY (default: the current one) and never leaves this host; only the
# certificate is uploaded. The group of the service can read the key if this host has the group. N is the
# number of days for which the certificate is valid. URI is the page that a browser shows after consent.
set -euo pipefail

name=secure-score-forwarder audience=AzureADMyOrg days=365 out=.
# `consent-url` uses the same URI by default.
redirect=http://localhost
group=secure-score-forwarder
usage() { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
while [ $# -gt 0 ]; do
    case "$1" in
        --name) name="${2:?}"; shift 2 ;;
        --multi-tenant) audience=AzureADMultipleOrgs; shift ;;
        --days) days="${2:?}"; shift 2 ;;
        --out) out="${2:?}"; shift 2 ;;
        --redirect-uri) redirect="${2:?}"; shift 2 ;;
        *) usage ;;
    esac
done
need() { command -v "$1" >/dev/null || { echo "error: \`$1\` is not installed" >&2; exit 1; }; }
need az
need openssl

graph=00000003-0000-0000-c000-000000000000       # Microsoft Graph
permission=bf394140-e372-4bf9-a898-299cfc7564e5  # SecurityEvents.Read.All, application
mkdir -p "$out"
out="$(cd "$out" && pwd)"
pem="$out/$name.pem"
[ ! -e "$pem" ] || { echo "error: \`$pem\` already exists and is not overwritten" >&2; exit 1; }

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
umask 077
openssl req -x509 -newkey rsa:3072 -sha256 -nodes -days "$days" -subj "/CN=$name" \
    -keyout "$scratch/key.pem" -out "$scratch/certificate.pem" 2>/dev/null

tenant="$(az account show --query tenantId --output tsv)"
client="$(az ad app create --display-name "$name" --sign-in-audience "$audience" \
    --web-redirect-uris "$redirect" --query appId --output tsv)"
[ -n "$client" ] || { echo "error: the application was not created" >&2; exit 1; }
az ad sp show --id "$client" >/dev/null 2>&1 || az ad sp create --id "$client" >/dev/null
az ad app permission add --id "$client" --api "$graph" --api-permissions "$permission=Role" >/dev/null
# Consent can fail for some time after the application is created.
for wait in 2 5 10 20 40; do
    az ad app permission admin-consent --id "$client" >/dev/null 2>&1 && granted=yes && break
    sleep "$wait"
done
az ad app credential reset --id "$client" --cert "@$scratch/certificate.pem" --append >/dev/null
cat "$scratch/certificate.pem" "$scratch/key.pem" >"$pem"

if [ -z "${granted:-}" ]; then
    echo "warning: admin consent was not granted" >&2
    echo "  hint: as an administrator of the tenant, run: az ad app permission admin-consent --id $client" >&2
fi

# The service runs as a user of this group, and must be able to read the key.
if getent group "$group" >/dev/null 2>&1 && chgrp "$group" "$pem" 2>/dev/null; then
    chmod 640 "$pem"
    shared=yes
fi
target="/etc/secure-score-forwarder/$name.pem"
echo "The application is registered. Its certificate and private key are in $pem."
if [ -z "${shared:-}" ]; then
    echo "warning: the service cannot read $pem: this host has no group $group, or you are not a member" >&2
    echo "  hint: on the host of the service, as root, run: install -m 640 -g $group $(basename "$pem") $target" >&2
elif [ "$pem" != "$target" ]; then
    echo "As root, move it with its permissions: mv $pem $target"
fi
cat <<END
Add this to the configuration:

[[tenants]]
name = "contoso"
id = "$tenant"
[tenants.credential]
kind = "certificate"
client_id = "$client"
certificate = "$target"
END
