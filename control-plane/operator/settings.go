package operator

import (
	"errors"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"
	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

// settings are what a cluster gets when it is created and may change later. What was not
// given is nil or empty, and is left to the API.
type settings struct {
	logging            *types.Logging
	authenticationMode types.AuthenticationMode
	deletionProtection *bool
}

// settingFlags are the flags of settings.
type settingFlags struct {
	logging            []string
	authenticationMode string
	deletionProtection bool
}

const (
	loggingFlag            = "logging"
	authenticationModeFlag = "authentication-mode"
	deletionProtectionFlag = "deletion-protection"
)

func (s *settingFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&s.logging, loggingFlag, nil, "types of logs to have on, the others being off: api, audit, authenticator, controllerManager, scheduler; or none")
	f.StringVar(&s.authenticationMode, authenticationModeFlag, "", "API for access entries alone, or API_AND_CONFIG_MAP for the ConfigMap aws-auth beside them; it can change to API only")
	f.BoolVar(&s.deletionProtection, deletionProtectionFlag, false, "refuse to delete the cluster")
}

// given are the settings whose flags are on the command line of cmd.
func (s *settingFlags) given(cmd *cobra.Command) settings {
	given := settings{authenticationMode: types.AuthenticationMode(s.authenticationMode)}
	if cmd.Flags().Changed(loggingFlag) {
		given.logging = onlyLogs(s.logging)
	}
	if cmd.Flags().Changed(deletionProtectionFlag) {
		given.deletionProtection = &s.deletionProtection
	}
	return given
}

// onlyLogs turns the named types of logs on and all others off. A name that is no type
// goes to the API, which says which there are.
func onlyLogs(names []string) *types.Logging {
	if slices.Equal(names, []string{"none"}) {
		names = nil
	}
	var on []types.LogType
	for _, name := range names {
		on = append(on, types.LogType(name))
	}
	off := slices.DeleteFunc(types.LogType("").Values(), func(kind types.LogType) bool { return slices.Contains(on, kind) })
	logging := &types.Logging{}
	if len(on) > 0 {
		logging.ClusterLogging = append(logging.ClusterLogging, types.LogSetup{Enabled: aws.Bool(true), Types: on})
	}
	if len(off) > 0 {
		logging.ClusterLogging = append(logging.ClusterLogging, types.LogSetup{Enabled: aws.Bool(false), Types: off})
	}
	return logging
}

// create puts the settings into the request for a new cluster.
func (s settings) create(input *eks.CreateClusterInput) {
	input.Logging, input.DeletionProtection = s.logging, s.deletionProtection
	if s.authenticationMode != "" {
		input.AccessConfig = &types.CreateAccessConfigRequest{AuthenticationMode: s.authenticationMode}
	}
}

// update makes the request to change a cluster's setting: one, as the API wants it.
func (s settings) update(name string) (*eks.UpdateClusterConfigInput, error) {
	input := &eks.UpdateClusterConfigInput{Name: aws.String(name), Logging: s.logging, DeletionProtection: s.deletionProtection}
	if s.authenticationMode != "" {
		input.AccessConfig = &types.UpdateAccessConfigRequest{AuthenticationMode: s.authenticationMode}
	}
	changes := 0
	for _, given := range []bool{s.logging != nil, s.authenticationMode != "", s.deletionProtection != nil} {
		if given {
			changes++
		}
	}
	if changes != 1 {
		return nil, cli.Usage(errors.New("want one change at a time: --" + loggingFlag + ", --" + authenticationModeFlag + " or --" + deletionProtectionFlag))
	}
	return input, nil
}
