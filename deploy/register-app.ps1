<#
.SYNOPSIS
Registers the application with which the forwarder reads Secure Score.
.DESCRIPTION
Requires the module Microsoft.Graph.Authentication of the Microsoft Graph PowerShell SDK, and an administrator who
signs in. The application gets only SecurityEvents.Read.All of Microsoft Graph. The private key is created on this
machine and never leaves it; only the certificate is uploaded. On Linux, the group of the service can read the key if
this machine has the group. RedirectUri is the page that a browser shows after consent.

Every user of a tenant may be able to create an application, so the script never uses one that it finds by its name: a
Name that is taken is an error. To complete a registration of this script that failed, pass the ID of its application
with AppId, and the same Name, Out and MultiTenant. The script then requires that the application has exactly the one
permission, no credential except the certificate in Out, and no owner except the account that signs in, or the user
whose object ID is Owner.
.EXAMPLE
./register-app.ps1 -Out C:\keys
.EXAMPLE
./register-app.ps1 -MultiTenant
.EXAMPLE
./register-app.ps1 -Out C:\keys -AppId 11111111-2222-4333-8444-555555555555
#>
#Requires -Version 7.3
[CmdletBinding()]
param(
    [ValidatePattern('\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\z')]
    [string] $Name = 'secure-score-forwarder',
    [switch] $MultiTenant,
    [ValidateRange(1, 99999)]
    [int] $Days = 365,
    [string] $Out = '.',
    # `consent-url` uses the same URI by default.
    [ValidatePattern('\A(https://|http://localhost([:/]|\z))[^"\\\s\p{Cc}]*\z')]
    [string] $RedirectUri = 'http://localhost',
    [ValidateSet('global', 'us-gov-high', 'us-gov-dod')]
    [string] $Cloud = 'global',
    [ValidatePattern('\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\z')]
    [string] $AppId = '',
    [ValidatePattern('\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\z')]
    [string] $Owner = ''
)
$ErrorActionPreference = 'Stop'
Set-StrictMode -Version 3.0

function Stop-Script([string] $Message, [string] $Hint = '') {
    [Console]::Error.WriteLine("error: $Message")
    if ($Hint -ne '') { [Console]::Error.WriteLine("  hint: $Hint") }
    exit 1
}
if (-not (Get-Module -ListAvailable 'Microsoft.Graph.Authentication')) {
    Stop-Script 'Microsoft.Graph.Authentication is not installed' 'run `Install-Module Microsoft.Graph.Authentication`'
}
if ($Owner -ne '' -and $AppId -eq '') { Stop-Script '`-Owner` requires `-AppId`' }

$graphApp = '00000003-0000-0000-c000-000000000000'  # Microsoft Graph
$role = 'bf394140-e372-4bf9-a898-299cfc7564e5'      # SecurityEvents.Read.All, application
$audience = if ($MultiTenant) { 'AzureADMultipleOrgs' } else { 'AzureADMyOrg' }
$client = $AppId.ToLowerInvariant()
$trusted = $Owner.ToLowerInvariant()
$pem = Join-Path $Out "$Name.pem"
$resume = "run ``register-app.ps1 -Name $Name -Out $Out"
if ($MultiTenant) { $resume += ' -MultiTenant' }
if ($Cloud -ne 'global') { $resume += " -Cloud $Cloud" }
$resume += ' -AppId'
if ($client -ne '') {
    if (-not (Test-Path $pem)) {
        Stop-Script "``$pem`` does not exist" 'set -Name and -Out to the values with which the application was registered'
    }
} elseif (Test-Path $pem) {
    Stop-Script "``$pem`` already exists and is not overwritten" "use another -Out or -Name; to complete a registration that failed, $resume ID``"
}

# What happened to the last request to Microsoft Graph: its status, or 0 without a response, and the reason of a failure.
$script:status = 0
$script:reason = ''

# Sends a request to Microsoft Graph. Returns the response as a hash table, or nothing if the request failed.
function Send-Request([string] $Method, [string] $Path, [hashtable] $Body = $null) {
    $code = 0
    $request = @{
        Method             = $Method
        Uri                = "/v1.0/$Path"
        OutputType         = 'HashTable'
        SkipHttpErrorCheck = $true
        StatusCodeVariable = 'code'
    }
    if ($null -ne $Body) {
        $request['Body'] = ConvertTo-Json $Body -Depth 10
        $request['ContentType'] = 'application/json'
    }
    $script:status = 0
    try {
        $response = Invoke-MgGraphRequest @request
    } catch {
        $script:reason = $_.Exception.Message -replace '[^\x20-\x7e]', ' '
        return
    }
    $script:status = [int] $code
    if ($null -ne $response -and $null -ne $response['error']) {
        $text = "$($response['error']['code']): $($response['error']['message'])"
        $script:reason = $text -replace '[^\x20-\x7e]', ' '
        return
    }
    if ($script:status -ge 300) {
        $script:reason = "HTTP $($script:status)"
        return
    }
    $script:reason = 'Microsoft Graph does not return it yet'
    if ($null -eq $response) { return @{} }
    return $response
}

# Repeats a script block until it returns true, for at most 77 seconds: a new object is not visible on all servers of
# Microsoft Graph immediately.
function Wait-Until([scriptblock] $Attempt) {
    foreach ($seconds in 2, 5, 10, 20, 40) {
        if (& $Attempt) { return $true }
        if ($script:status -eq 403) { return $false }
        Start-Sleep -Seconds $seconds
    }
    return & $Attempt
}

# The owners of an application or a service principal, each with its ID and its name. Returns nothing if the request
# failed.
function Get-Owners([string] $Path) {
    $response = Send-Request GET "$Path/owners"
    if ($null -eq $response) { return }
    $owners = @()
    foreach ($one in $response['value']) {
        $label = $one['userPrincipalName']
        if ($null -eq $label) { $label = $one['appId'] }
        if ($null -eq $label) { $label = '-' }
        $owners += @{ Id = $one['id']; Text = "``$($one['id'])`` ($($label -replace '[^\x20-\x7e]', ' '))" }
    }
    return @{ List = $owners }
}
function Format-Owners([string] $Path) {
    $owners = Get-Owners $Path
    if ($null -eq $owners) { return 'unknown' }
    if ($owners['List'].Count -eq 0) { return 'none; only administrators can change it' }
    $texts = foreach ($one in $owners['List']) { $one['Text'] }
    return $texts -join ', '
}

# Ends the script because the name is taken by other applications.
function Stop-TakenName([array] $Others, [string] $Consequence) {
    [Console]::Error.WriteLine("error: another application is named ``$Name``: $Consequence")
    foreach ($other in $Others) {
        $owners = Format-Owners "applications/$($other['id'])"
        [Console]::Error.WriteLine("  application ``$($other['appId'])``, owners: $owners")
    }
    [Console]::Error.WriteLine('  hint: find out who created it and for what purpose; then delete it, or set another -Name')
    exit 1
}

# The applications with the name. Returns nothing if the request failed.
function Get-Named {
    $response = Send-Request GET "applications?`$filter=displayName%20eq%20%27$Name%27&`$select=id,appId"
    if ($null -eq $response) { return }
    return @{ List = @($response['value']) }
}

# Whether the application in `$object` is the only one with the name. Ends the script if there is another one.
function Test-OnlyOne {
    $named = Get-Named
    if ($null -eq $named) { return $false }
    $others = @($named['List'] | Where-Object { $_['id'] -cne $object })
    if ($others.Count -gt 0) {
        if (-not $created) { Stop-TakenName $others 'nothing was changed' }
        if ($null -ne (Send-Request DELETE "applications/$object")) {
            Remove-Item $pem
            Stop-TakenName $others 'it appeared during the registration; the new application was deleted, and no permission was granted'
        }
        Stop-TakenName $others "it appeared during the registration; no permission was granted, but the new application ``$client`` could not be deleted: $($script:reason)"
    }
    return $named['List'].Count -eq 1
}

# Prints the first directory above a directory in which other users can replace what leads to it.
$above = 'path=$(cd "$1" && pwd -P)
    while [ "$path" != / ]; do
        path=$(dirname "$path")
        find "$path" -prune \( \( ! -user 0 ! -user "$(id -u)" \) -o \( -perm -0020 -o -perm -0002 \) ! -perm -1000 \)
    done | head -n 1'

# Ends the script if another user can write to the directory of the key, or replace it. That user could exchange the key,
# or put a FIFO in its place that receives it.
function Assert-Directory {
    if ($IsWindows) { return }
    $user = id '-u'
    $foreign = find '-H' $Out '-prune' '!' '-user' $user
    if ($foreign) { Stop-Script "``$Out`` belongs to another user" 'use a directory that belongs to the user who runs this script' }
    $writable = find '-H' $Out '-prune' '(' '-perm' '-0020' '-o' '-perm' '-0002' ')'
    if ($writable) { Stop-Script "other users can write to ``$Out``" "use a directory with mode 0755 or 0700, or run ``chmod go-w $Out``" }
    $replaceable = sh '-c' $above 'sh' $Out
    if ($replaceable) {
        Stop-Script "other users can replace ``$Out``, because they can write to ``$replaceable``" `
            'use a directory below one that only you and root can change'
    }
}

# Creates the key and the certificate. The key is stored before the application is created, so that it cannot get lost.
function New-Key {
    $key = [System.Security.Cryptography.RSA]::Create(3072)
    $request = [System.Security.Cryptography.X509Certificates.CertificateRequest]::new(
        "CN=$Name", $key, [System.Security.Cryptography.HashAlgorithmName]::SHA256,
        [System.Security.Cryptography.RSASignaturePadding]::Pkcs1)
    $now = [System.DateTimeOffset]::UtcNow
    $certificate = $request.CreateSelfSigned($now.AddMinutes(-5), $now.AddDays($Days))
    if (-not (Test-Path $Out)) {
        New-Item -ItemType Directory -Force $Out | Out-Null
        if (-not $IsWindows) { chmod 'go-w' $Out }
    }
    Assert-Directory
    # Fails if the name exists as anything: a file, a link, a FIFO or a device.
    New-Item -ItemType File $pem | Out-Null
    if (-not $IsWindows) { chmod 600 $pem }    # before the key is written to it
    $text = $certificate.ExportCertificatePem() + "`n" + $key.ExportPkcs8PrivateKeyPem() + "`n"
    Set-Content -Path $pem -Value $text -NoNewline
}

# The certificate in the file, as Microsoft Graph represents it.
function Read-Certificate {
    $parts = (Get-Content -Raw $pem) -split '-----(?:BEGIN|END) CERTIFICATE-----'
    if ($parts.Count -lt 3) { Stop-Script "``$pem`` contains no certificate" }
    return $parts[1] -replace '\s', ''
}

# Creates the application, and returns it.
function New-Application {
    $response = Send-Request POST 'applications' @{
        displayName            = $Name
        signInAudience         = $audience
        web                    = @{ redirectUris = @($RedirectUri) }
        requiredResourceAccess = @(@{
            resourceAppId  = $graphApp
            resourceAccess = @(@{ id = $role; type = 'Role' })
        })
        keyCredentials         = @(@{ type = 'AsymmetricX509Cert'; usage = 'Verify'; displayName = "CN=$Name"; key = $certificate })
    }
    if ($null -ne $response) { return $response }
    # After a definite rejection, the key has no use. Otherwise, the application may have been created.
    if ($script:status -in 400, 401, 403) {
        Remove-Item $pem
        $hint = if ($script:status -eq 403) { 'sign in as an Application Administrator or Cloud Application Administrator' } else { '' }
        Stop-Script "the application was not created: $($script:reason)" $hint
    }
    Stop-Script "the application may not have been created: $($script:reason)" "if the tenant has a new application ``$Name``, $resume`` with its ID; otherwise, delete ``$pem`` and try again"
}

# Whether the application in `$object` can be read. Ends the script if it is not exactly what this script creates.
function Test-Application {
    $hint = "do not use this application; delete it and ``$pem``, and register again without -AppId"
    $found = Send-Request GET "applications/${object}?`$select=id,appId,displayName,signInAudience,requiredResourceAccess,keyCredentials,passwordCredentials"
    if ($null -eq $found) { return $false }
    if ($found['appId'] -cne $client) { Stop-Script "the application ``$client`` has another ID than requested" $hint }
    if ($found['displayName'] -cne $Name) {
        Stop-Script "the application ``$client`` is not named ``$Name``" 'set -Name to the name with which it was registered, or register without -AppId'
    }
    if ($found['signInAudience'] -cne $audience) {
        Stop-Script "the application ``$client`` does not have the sign-in audience ``$audience``" 'set or omit -MultiTenant as when it was registered'
    }

    $required = foreach ($api in $found['requiredResourceAccess']) {
        "$($api['resourceAppId']):"
        foreach ($access in $api['resourceAccess']) { "$($access['id'])=$($access['type'])" }
    }
    if (($required -join ' ') -cne "${graphApp}: $role=Role") {
        Stop-Script "the application ``$client`` requires other permissions than SecurityEvents.Read.All" $hint
    }
    $keys = @($found['keyCredentials'])
    if ($keys.Count -ne 1 -or @($found['passwordCredentials']).Count -ne 0) {
        Stop-Script "the application ``$client`` has other credentials than one certificate" $hint
    }
    # Microsoft Graph returns the certificate only to the request for a single application.
    if (-not $created -and $keys[0]['key'] -cne $certificate) {
        Stop-Script "the certificate of the application ``$client`` is not the one in ``$pem``" $hint
    }
    $federated = Send-Request GET "applications/$object/federatedIdentityCredentials"
    if ($null -eq $federated) { return $false }
    if (@($federated['value']).Count -ne 0) {
        Stop-Script "the application ``$client`` trusts the tokens of another issuer (federated credentials)" $hint
    }
    return $true
}

# Ends the script if the application or its service principal has an owner who could add a credential.
function Assert-Owners([string] $Path) {
    $owners = Get-Owners $Path
    if ($null -eq $owners) { Stop-Script "the owners of the application ``$client`` cannot be read: $($script:reason)" }
    foreach ($one in $owners['List']) {
        if ($one['Id'] -cne $trusted) {
            Stop-Script "the application ``$client`` has another owner than ``$trusted``: $($one['Text'])" 'if this user registered the application with this script, set -Owner to the object ID; otherwise, delete the application and register again'
        }
    }
}

# The object ID of the application that the command line names.
function Find-Application {
    $response = Send-Request GET "applications?`$filter=appId%20eq%20%27$client%27&`$select=id"
    if ($null -eq $response) { Stop-Script "the application ``$client`` cannot be read: $($script:reason)" }
    $found = @($response['value'])
    if ($found.Count -ne 1) { Stop-Script "the tenant has no application ``$client``" }
    return $found[0]['id']
}

# The object ID of the service principal of the application, which is created if necessary. Returns nothing if that
# failed.
function Get-Principal {
    $response = Send-Request GET "servicePrincipals?`$filter=appId%20eq%20%27$client%27&`$select=id"
    if ($null -eq $response) { return }
    foreach ($one in $response['value']) { return $one['id'] }
    $new = Send-Request POST 'servicePrincipals' @{ appId = $client }
    if ($null -eq $new) { return }
    $script:createdPrincipal = $true
    return $new['id']
}

# Ends the script if an existing service principal has a credential, or an owner who could add one.
function Assert-Principal {
    $found = Send-Request GET "servicePrincipals/${principal}?`$select=id,keyCredentials,passwordCredentials"
    if ($null -eq $found) { Stop-Script "the service principal of the application ``$client`` cannot be read: $($script:reason)" }
    if (@($found['keyCredentials']).Count -ne 0 -or @($found['passwordCredentials']).Count -ne 0) {
        Stop-Script "the service principal of the application ``$client`` has a credential" 'delete the application, and register again without -AppId'
    }
    Assert-Owners "servicePrincipals/$principal"
}

# The object ID of the service principal of Microsoft Graph, which defines the permission. Returns nothing if it cannot
# be read.
function Get-Resource {
    $response = Send-Request GET "servicePrincipals?`$filter=appId%20eq%20%27$graphApp%27&`$select=id,appRoles"
    if ($null -eq $response) { return }
    foreach ($one in $response['value']) {
        $offered = @($one['appRoles'] | Where-Object { $_['id'] -ceq $role -and $_['value'] -ceq 'SecurityEvents.Read.All' -and $_['isEnabled'] })
        if ($offered.Count -ne 1) { Stop-Script 'Microsoft Graph does not offer the permission SecurityEvents.Read.All in this tenant' }
        return $one['id']
    }
}

# Whether the service principal has exactly the one permission. Ends the script if it has others.
function Test-Granted {
    $response = Send-Request GET "servicePrincipals/$principal/appRoleAssignments"
    if ($null -eq $response) { return $false }
    $granted = foreach ($one in $response['value']) { "$($one['resourceId']) $($one['appRoleId'])" }
    $granted = $granted -join ', '
    if ($granted -ne '' -and $granted -cne "$resource $role") {
        Stop-Script "the application ``$client`` has other permissions than SecurityEvents.Read.All" 'remove them in the Entra admin center, under Enterprise applications'
    }
    return $granted -ne ''
}
function Grant-Role {
    if (Test-Granted) { return $true }
    $new = Send-Request POST "servicePrincipals/$resource/appRoleAssignedTo" @{ principalId = $principal; resourceId = $resource; appRoleId = $role }
    if ($null -eq $new) { return $false }
    return Test-Granted
}

$environments = @{ 'global' = 'Global'; 'us-gov-high' = 'USGov'; 'us-gov-dod' = 'USGovDoD' }
$scopes = 'Application.ReadWrite.All', 'AppRoleAssignment.ReadWrite.All', 'User.Read'
Connect-MgGraph -Environment $environments[$Cloud] -Scopes $scopes -NoWelcome

$created = $false
$object = ''
if ($client -eq '') {
    $named = Get-Named
    if ($null -eq $named) { Stop-Script "the applications of the tenant cannot be read: $($script:reason)" }
    if ($named['List'].Count -gt 0) { Stop-TakenName $named['List'] 'nothing was changed' }
    New-Key
    $certificate = Read-Certificate
    $app = New-Application
    $created = $true
    $object = $app['id']
    $client = $app['appId']
    if (-not (Wait-Until { Test-OnlyOne })) { Stop-Script "the new application ``$client`` cannot be found: $($script:reason)" "$resume $client``" }
    if (-not (Wait-Until { Test-Application })) { Stop-Script "the new application ``$client`` cannot be read: $($script:reason)" "$resume $client``" }
} else {
    Assert-Directory
    $certificate = Read-Certificate
    $object = Find-Application
    if ($trusted -eq '') {
        $me = Send-Request GET 'me?$select=id'
        if ($null -eq $me) { Stop-Script "the account that is signed in cannot be determined: $($script:reason)" 'set -Owner' }
        $trusted = $me['id']
    }
    Assert-Owners "applications/$object"
    if (-not (Test-Application)) { Stop-Script "the application ``$client`` cannot be read: $($script:reason)" }
    if (-not (Test-OnlyOne)) { Stop-Script "the applications of the tenant cannot be read: $($script:reason)" }
}

$principal = $null
$createdPrincipal = $false
if (-not (Wait-Until { $script:principal = Get-Principal; $null -ne $script:principal })) {
    Stop-Script "the service principal of the application ``$client`` was not created: $($script:reason)" "$resume $client``"
}
if (-not $createdPrincipal) { Assert-Principal }
$resource = $null
if (-not (Wait-Until { $script:resource = Get-Resource; $null -ne $script:resource })) {
    Stop-Script "the service principal of Microsoft Graph cannot be read: $($script:reason)" "$resume $client``"
}
if (-not (Wait-Until { Grant-Role })) {
    Stop-Script "the permission was not granted to the application ``$client``: $($script:reason)" "sign in as a Privileged Role Administrator, and $resume $client``"
}

# The service runs as a user of this group, and must be able to read the key.
$group = 'secure-score-forwarder'
$shared = $false
if ($IsLinux) {
    getent group $group | Out-Null
    if ($LASTEXITCODE -eq 0) { chgrp $group $pem; $shared = $LASTEXITCODE -eq 0 }
    if ($shared) { chmod 640 $pem }
}
$target = "/etc/secure-score-forwarder/$Name.pem"
if (-not $shared) {
    Write-Warning ("The service cannot read $pem yet. On the host of the service, as root, run: " +
        "install -m 640 -g $group $Name.pem $target")
}

$cloudKey = if ($Cloud -eq 'global') { '' } else { "`ncloud = ""$($Cloud.ToLowerInvariant())""" }
@"
The application is registered, and has exactly one permission: SecurityEvents.Read.All.
Its ID is $client. Its owners are: $(Format-Owners "applications/$object").
Its certificate and private key are in $pem.
Move the file to $target on the forwarder's host, and add this to the configuration:

[[tenants]]
name = "contoso"
id = "$((Get-MgContext).TenantId)"$cloudKey
[tenants.credential]
kind = "certificate"
client_id = "$client"
certificate = "$target"
"@
