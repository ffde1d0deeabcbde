<#
.SYNOPSIS
Registers the application with which the forwarder reads Secure Score.
.DESCRIPTION
Requires the Microsoft Graph PowerShell SDK, and an administrator who signs in. The application gets only
SecurityEvents.Read.All of Microsoft Graph. The private key is created on this machine and never leaves
it; only the certificate is uploaded. On Linux, the group of the service can read the key if this machine has
the group. RedirectUri is the page that a browser shows after consent.
.EXAMPLE
./register-app.ps1 -Out C:\keys
.EXAMPLE
./register-app.ps1 -MultiTenant
#>
#Requires -Version 7.3
[CmdletBinding()]
param(
    [string] $Name = 'secure-score-forwarder',
    [switch] $MultiTenant,
    [int] $Days = 365,
    [string] $Out = '.',
    # `consent-url` uses the same URI by default.
    [string] $RedirectUri = 'http://localhost'
)
$ErrorActionPreference = 'Stop'
Set-StrictMode -Version 3.0
foreach ($module in 'Microsoft.Graph.Authentication', 'Microsoft.Graph.Applications') {
    if (-not (Get-Module -ListAvailable $module)) { throw "$module is not installed; run: Install-Module $module" }
}

$graphApp = '00000003-0000-0000-c000-000000000000'    # Microsoft Graph
$permission = 'bf394140-e372-4bf9-a898-299cfc7564e5'  # SecurityEvents.Read.All, application
$pem = Join-Path $Out "$Name.pem"
if (Test-Path $pem) { throw "$pem already exists and is not overwritten" }

$key = [System.Security.Cryptography.RSA]::Create(3072)
$request = [System.Security.Cryptography.X509Certificates.CertificateRequest]::new(
    "CN=$Name", $key, [System.Security.Cryptography.HashAlgorithmName]::SHA256,
    [System.Security.Cryptography.RSASignaturePadding]::Pkcs1)
$now = [System.DateTimeOffset]::UtcNow
$certificate = $request.CreateSelfSigned($now.AddMinutes(-5), $now.AddDays($Days))

Connect-MgGraph -Scopes 'Application.ReadWrite.All', 'AppRoleAssignment.ReadWrite.All' -NoWelcome
$audience = if ($MultiTenant) { 'AzureADMultipleOrgs' } else { 'AzureADMyOrg' }
$app = New-MgApplication -DisplayName $Name -SignInAudience $audience `
    -Web @{ RedirectUris = @($RedirectUri) } `
    -RequiredResourceAccess @{
        ResourceAppId  = $graphApp
        ResourceAccess = @(@{ Id = $permission; Type = 'Role' })
    } `
    -KeyCredentials @(@{ Type = 'AsymmetricX509Cert'; Usage = 'Verify'; Key = $certificate.RawData; DisplayName = "CN=$Name" })
$principal = New-MgServicePrincipal -AppId $app.AppId
$graph = Get-MgServicePrincipal -Filter "appId eq '$graphApp'"
New-MgServicePrincipalAppRoleAssignment -ServicePrincipalId $principal.Id -PrincipalId $principal.Id `
    -ResourceId $graph.Id -AppRoleId $permission | Out-Null

New-Item -ItemType Directory -Force $Out | Out-Null
New-Item -ItemType File $pem | Out-Null
if (-not $IsWindows) { chmod 600 $pem }    # before the key is written to it
$text = $certificate.ExportCertificatePem() + "`n" + $key.ExportPkcs8PrivateKeyPem() + "`n"
Set-Content -Path $pem -Value $text -NoNewline

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

@"
The application is registered. Its certificate and private key are in $pem.
Move the file to $target on the forwarder's host, and add this to the configuration:

[[tenants]]
name = "contoso"
id = "$((Get-MgContext).TenantId)"
[tenants.credential]
kind = "certificate"
client_id = "$($app.AppId)"
certificate = "$target"
"@
