package nodeconfig

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/pelletier/go-toml/v2"
	kjson "sigs.k8s.io/json"
)

// tree is a document without types: merging must tell what is absent from what is empty.
type tree map[string]any

func (t tree) typed() (Config, error) {
	data, err := json.Marshal(t)
	if err != nil {
		return Config{}, err
	}
	var config Config
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &config); err != nil {
		return Config{}, err
	}
	return config, nil
}

// merge lays documents over each other, the later over the earlier: mappings key by key
// to any depth, everything else as a whole, save for the fields that add up.
func merge(documents []tree) (tree, error) {
	result := tree{}
	for _, document := range documents {
		if err := mergeInto(result, document, ""); err != nil {
			return nil, err
		}
	}
	return result, nil
}

func mergeInto(onto, from map[string]any, path string) error {
	for key, value := range from {
		at := path + key
		before, present := onto[key]
		if !present {
			onto[key] = value
			continue
		}
		switch value := value.(type) {
		case map[string]any:
			if mapping, ok := before.(map[string]any); ok {
				if err := mergeInto(mapping, value, at+"."); err != nil {
					return err
				}
				continue
			}
		case []any:
			// kubelet takes the last of two equal flags, so appended ones win.
			if list, ok := before.([]any); ok && at == "spec.kubelet.flags" {
				onto[key] = slices.Concat(list, value)
				continue
			}
		case string:
			if text, ok := before.(string); ok && at == "spec.containerd.config" {
				merged, err := mergeTOML(text, value)
				if err != nil {
					return fmt.Errorf("%s: %w", at, err)
				}
				onto[key] = merged
				continue
			}
		}
		onto[key] = value
	}
	return nil
}

func mergeTOML(before, after string) (string, error) {
	var onto, from map[string]any
	if err := toml.Unmarshal([]byte(before), &onto); err != nil {
		return "", err
	}
	if err := toml.Unmarshal([]byte(after), &from); err != nil {
		return "", err
	}
	if a, b := onto["version"], from["version"]; a != b && onto != nil && from != nil {
		return "", fmt.Errorf("two NodeConfigs have TOML of different versions (%v and %v), which cannot be merged", orNone(a), orNone(b))
	}
	if onto == nil {
		return after, nil
	}
	if err := mergeInto(onto, from, "toml."); err != nil {
		return "", err
	}
	merged, err := toml.Marshal(onto)
	return string(merged), err
}

func orNone(version any) any {
	if version == nil {
		return "none"
	}
	return version
}
