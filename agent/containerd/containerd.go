// Package containerd computes containerd's files, for containerd 2. The user's TOML is a
// file of its own that containerd merges over ours, so that plugin names of containerd 1,
// which is what people have in their user-data, go on working. It decides only; it writes
// nothing and starts nothing.
package containerd

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

const (
	configPath   = "/etc/containerd/config.toml"
	nvidiaPath   = "/etc/containerd/conf.d/30-nvidia.toml" // before the user's, which is to win
	userPath     = "/etc/containerd/conf.d/40-nodeadm.toml"
	baseSpecPath = "/etc/containerd/base-runtime-spec.json"
)

var (
	//go:embed config.toml
	configTemplate string
	//go:embed nvidia.toml
	nvidiaConfig []byte
	// What `ctr oci spec` of containerd 2.4 prints, with the limit on open files that
	// systemd gives services, and without what containerd sets for each container.
	//go:embed base-runtime-spec.json
	baseSpec []byte
)

// Input is all that containerd's files depend on.
type Input struct {
	PauseImage  string         // the sandbox image, never collected as garbage
	UserConfig  string         // spec.containerd.config, TOML
	RuntimeSpec map[string]any // spec.containerd.baseRuntimeSpec, merged over the default

	Accelerators Accelerators
}

// Files returns containerd's files. The user's file must not exist when the user has none, nor
// NVIDIA's without devices and a runtime of NVIDIA's.
func Files(in Input) ([]rootfs.File, error) {
	if strings.ContainsAny(in.PauseImage, "\"\\\n") || in.PauseImage == "" {
		return nil, fmt.Errorf("%q is not the name of a sandbox image", in.PauseImage)
	}
	// Not text/template: a program that has it in it keeps every method of every type,
	// which makes the agent a fifth bigger.
	config := strings.ReplaceAll(configTemplate, "{{.PauseImage}}", in.PauseImage)
	spec, err := runtimeSpec(in.RuntimeSpec)
	if err != nil {
		return nil, err
	}
	user, hosts, err := userConfig(in.UserConfig)
	if err != nil {
		return nil, err
	}
	nvidia := rootfs.File{Path: nvidiaPath}
	if in.Accelerators.useNVIDIA() {
		nvidia.Data = nvidiaConfig
	}
	return append([]rootfs.File{
		{Path: configPath, Data: []byte(config)},
		nvidia,
		{Path: userPath, Data: user},
		{Path: baseSpecPath, Data: spec},
	}, hosts...), nil
}

// userConfig returns the user's TOML as it is, or with an empty table of runtimes: without
// one, containerd 2 forgets three keys of the containerd 1 plugin when it migrates them
// (discard_unpacked_layers, snapshotter, disable_snapshot_annotations). Mirrors of
// registries become files of their own.
func userConfig(user string) ([]byte, []rootfs.File, error) {
	if strings.TrimSpace(user) == "" {
		return nil, nil, nil
	}
	var config map[string]any
	if err := toml.Unmarshal([]byte(user), &config); err != nil {
		return nil, nil, fmt.Errorf("read spec.containerd.config: %w", err)
	}
	hosts, changed, err := takeMirrors(config)
	if err != nil {
		return nil, nil, err
	}
	plugins, _ := config["plugins"].(map[string]any)
	cri, _ := plugins["io.containerd.grpc.v1.cri"].(map[string]any)
	table, ok := cri["containerd"].(map[string]any)
	if ok && table["runtimes"] == nil {
		table["runtimes"] = map[string]any{}
		changed = true
	}
	if !changed {
		return []byte(user), hosts, nil
	}
	data, err := toml.Marshal(config)
	return data, hosts, err
}

func runtimeSpec(user map[string]any) ([]byte, error) {
	if len(user) == 0 {
		return baseSpec, nil
	}
	var spec map[string]any
	if err := json.Unmarshal(baseSpec, &spec); err != nil {
		return nil, fmt.Errorf("read the default runtime spec: %w", err)
	}
	mergeInto(spec, user)
	data, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("merge spec.containerd.baseRuntimeSpec: %w", err)
	}
	return append(data, '\n'), nil
}

// mergeInto lays mappings over each other key by key; anything else is replaced.
func mergeInto(onto, from map[string]any) {
	for key, value := range from {
		before, isMapping := onto[key].(map[string]any)
		if after, ok := value.(map[string]any); ok && isMapping {
			mergeInto(before, after)
			continue
		}
		onto[key] = value
	}
}
