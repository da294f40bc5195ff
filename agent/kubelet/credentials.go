package kubelet

import (
	_ "embed"

	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// Where Amazon's image has them, and its users add providers of their own.
const (
	providerDir        = "/etc/eks/image-credential-provider"
	providerConfigPath = providerDir + "/config.json"
	// providerPath is called as config.json calls the provider: that is how kubelet finds it.
	providerPath = providerDir + "/ecr-credential-provider"
)

// providerConfig is a CredentialProviderConfig for ECR's private registries, in every
// partition. public.ecr.aws is not among them: it takes pulls without credentials.
//
//go:embed credentialproviders.json
var providerConfig []byte

// provider makes a program of the agent's command.
const provider = `#!/bin/sh
exec /usr/bin/ovenbird-agent ecr-credentials
`

// providerFiles returns kubelet's image credential provider.
func providerFiles() []rootfs.File {
	return []rootfs.File{
		{Path: providerConfigPath, Data: providerConfig},
		{Path: providerPath, Mode: 0o755, Data: []byte(provider)},
	}
}
