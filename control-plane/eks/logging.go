package eks

import (
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// logTypes are the logs of a control plane, in the order in which EKS shows them.
var logTypes = []string{registry.LogAPI, registry.LogAudit, registry.LogAuthenticator, registry.LogControllerManager, registry.LogScheduler}

// logging switches types of logs on and off, and shows which are.
type logging struct {
	ClusterLogging []logSetup `json:"clusterLogging"`
}

type logSetup struct {
	Types   []string `json:"types"`
	Enabled bool     `json:"enabled"`
}

// apply returns which types are enabled when those were before. A type that is not named
// stays as it is.
func (l *logging) apply(name string, before []string) ([]string, error) {
	wanted := map[string]bool{}
	for _, kind := range before {
		wanted[kind] = true
	}
	said := map[string]bool{}
	for _, setup := range l.ClusterLogging {
		for _, kind := range setup.Types {
			if !slices.Contains(logTypes, kind) {
				return nil, invalidParameter(name, "logging.clusterLogging.types: %.40q is no type of log: choose from %s", kind, strings.Join(logTypes, ", "))
			}
			if earlier, twice := said[kind]; twice && earlier != setup.Enabled {
				return nil, invalidParameter(name, "logging.clusterLogging: %s is both enabled and disabled", kind)
			}
			said[kind], wanted[kind] = setup.Enabled, setup.Enabled
		}
	}
	return slices.DeleteFunc(slices.Clone(logTypes), func(kind string) bool { return !wanted[kind] }), nil
}

// loggingOnTheWire shows the enabled types and the others.
func loggingOnTheWire(enabled []string) logging {
	others := slices.DeleteFunc(slices.Clone(logTypes), func(kind string) bool { return slices.Contains(enabled, kind) })
	shown := logging{ClusterLogging: []logSetup{}}
	if len(enabled) > 0 {
		shown.ClusterLogging = append(shown.ClusterLogging, logSetup{enabled, true})
	}
	if len(others) > 0 {
		shown.ClusterLogging = append(shown.ClusterLogging, logSetup{others, false})
	}
	return shown
}
