// Package lifecycle is what the agent does beyond joining: it tells those who wait that the
// node is Ready, or that it cannot become so, and it moves the pods away before the
// instance goes. It calls AWS only where the environment names who waits.
package lifecycle

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/ovenbird-dev/ovenbird/agent/discover"
	"github.com/ovenbird-dev/ovenbird/agent/identity"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// The variables that say who waits, of spec.instance.environment.default or of the agent.
const (
	stackVariable     = "OVENBIRD_SIGNAL_STACK"    // default: the instance's tag
	resourceVariable  = "OVENBIRD_SIGNAL_RESOURCE" // logical ID; its presence asks for signals
	groupVariable     = "OVENBIRD_AUTO_SCALING_GROUP"
	launchVariable    = "OVENBIRD_LAUNCH_HOOK"
	terminateVariable = "OVENBIRD_TERMINATION_HOOK"
	drainVariable     = "OVENBIRD_DRAIN_TIMEOUT" // as time.ParseDuration reads it
)

// The tags that AWS puts on instances, which stand for variables that are not set.
const (
	stackTag = "aws:cloudformation:stack-name"
	groupTag = "aws:autoscaling:groupName"
)

// defaultDrain is how long evictions may take where the event itself sets no limit.
const defaultDrain = 10 * time.Minute

// Listeners are who waits for the node. All are empty when nobody does.
type Listeners struct {
	Stack           string        `json:"stack,omitempty"`
	Resource        string        `json:"resource,omitempty"` // logical ID
	Group           string        `json:"group,omitempty"`    // of Auto Scaling
	LaunchHook      string        `json:"launchHook,omitempty"`
	TerminationHook string        `json:"terminationHook,omitempty"`
	Drain           time.Duration `json:"drain"` // how long evictions may take, in nanoseconds
}

// ReadListeners reads who waits from the environment, and from the instance's tags what
// that leaves out.
func ReadListeners(ctx context.Context, environment func(name string) string, tag func(ctx context.Context, key string) (string, error)) (Listeners, error) {
	l := Listeners{
		Stack: environment(stackVariable), Resource: environment(resourceVariable), Group: environment(groupVariable),
		LaunchHook: environment(launchVariable), TerminationHook: environment(terminateVariable), Drain: defaultDrain,
	}
	if text := environment(drainVariable); text != "" {
		var err error
		if l.Drain, err = time.ParseDuration(text); err != nil || l.Drain <= 0 {
			return Listeners{}, fmt.Errorf("%s is %q: want a time like 10m", drainVariable, text)
		}
	}
	for _, name := range []struct {
		value         *string
		wanted        bool
		variable, tag string
	}{
		{&l.Stack, l.Resource != "", stackVariable, stackTag},
		{&l.Group, l.LaunchHook+l.TerminationHook != "", groupVariable, groupTag},
	} {
		if !name.wanted {
			*name.value = ""
			continue
		}
		if *name.value != "" {
			continue
		}
		value, err := tag(ctx, name.tag)
		if err != nil {
			return Listeners{}, err
		}
		if value == "" {
			return Listeners{}, fmt.Errorf("%s is not set and the instance's metadata shows no tag %s: set the variable, or allow tags in instance metadata", name.variable, name.tag)
		}
		*name.value = value
	}
	return l, nil
}

// ConfigPath is where the joining agent leaves the Config of the watching one.
const ConfigPath = "/run/ovenbird/watch.json"

// Config is what the watch needs to know. There is no secret in it.
type Config struct {
	Instance            string           `json:"instance"`
	Region              string           `json:"region"`
	Node                string           `json:"node"`
	Cluster             discover.Cluster `json:"cluster"`
	Identity            identity.Kind    `json:"identity"`
	STSEndpoint         string           `json:"stsEndpoint"`
	AutoScalingEndpoint string           `json:"autoScalingEndpoint"`
	Listeners           Listeners        `json:"listeners"`
}

// File returns the Config as a file.
func (c Config) File() (rootfs.File, error) { return jsonFile(ConfigPath, c) }

// ReadConfig reads what File wrote.
func ReadConfig(root rootfs.Root) (Config, error) {
	var config Config
	err := readJSON(root, ConfigPath, &config)
	if err != nil {
		return Config{}, fmt.Errorf("%w (the agent writes it once the node is Ready)", err)
	}
	return config, nil
}

func jsonFile(path string, value any) (rootfs.File, error) {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return rootfs.File{}, fmt.Errorf("encode %s: %w", path, err)
	}
	return rootfs.File{Path: path, Data: append(data, '\n')}, nil
}

func readJSON(root rootfs.Root, path string, into any) error {
	data, err := os.ReadFile(root.Join(path))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
