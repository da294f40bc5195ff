package kubelet

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/validate/content"
)

// Prefixes of the tags that say what a Node is registered with. EC2 shows no tag in instance
// metadata whose key has a slash, so a colon stands for that of a label's key. Cluster
// Autoscaler's tags have slashes, and are read where a metadata service shows them.
const (
	labelTag           = "ovenbird.dev-label:"
	taintTag           = "ovenbird.dev-taint:"
	autoscalerLabelTag = "k8s.io/cluster-autoscaler/node-template/label/"
	autoscalerTaintTag = "k8s.io/cluster-autoscaler/node-template/taint/"
)

// FromTags is what an instance's tags say about its Node.
type FromTags struct {
	labels []string // "key=value", by key
	taints []string // "key=value:Effect", by key
}

// IsNodeTag tells whether a tag of this key is about the Node.
func IsNodeTag(key string) bool {
	return slices.ContainsFunc([]string{labelTag, taintTag, autoscalerLabelTag, autoscalerTaintTag},
		func(prefix string) bool { return strings.HasPrefix(key, prefix) })
}

// ReadTags reads labels and taints from an instance's tags. One that no Node can have is a
// warning: kubelet would not start with it, and a node without it can be looked at.
func ReadTags(tags map[string]string) (FromTags, []string) {
	labels, taints := map[string]string{}, map[string]string{}
	var warnings []string
	// In this order, so that our own form wins over Cluster Autoscaler's.
	for _, form := range []struct {
		prefix, slash string
		into          map[string]string
		check         func(key, value string) string
	}{
		{autoscalerLabelTag, "/", labels, checkLabel},
		{autoscalerTaintTag, "/", taints, checkTaint},
		{labelTag, ":", labels, checkLabel},
		{taintTag, ":", taints, checkTaint},
	} {
		for _, tag := range slices.Sorted(maps.Keys(tags)) {
			key, ok := strings.CutPrefix(tag, form.prefix)
			if !ok {
				continue
			}
			key = strings.Replace(key, form.slash, "/", 1)
			if wrong := form.check(key, tags[tag]); wrong != "" {
				warnings = append(warnings, fmt.Sprintf("tag %s=%s has no effect: %s", tag, tags[tag], wrong))
				continue
			}
			form.into[key] = tags[tag]
		}
	}
	var read FromTags
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		read.labels = append(read.labels, key+"="+labels[key])
	}
	for _, key := range slices.Sorted(maps.Keys(taints)) {
		read.taints = append(read.taints, key+"="+taints[key])
	}
	return read, warnings
}

// checkLabel says what keeps a node from giving itself a label, if anything.
func checkLabel(key, value string) string {
	if wrong := content.IsLabelKey(key); len(wrong) > 0 {
		return fmt.Sprintf("%q is no label's key: %s", key, wrong[0])
	}
	if wrong := content.IsLabelValue(value); len(wrong) > 0 {
		return fmt.Sprintf("%q is no label's value: %s", value, wrong[0])
	}
	domain, _, prefixed := strings.Cut(key, "/")
	// As the API server's NodeRestriction (plugin/pkg/admission/noderestriction) has it, but
	// without the labels that kubelet and the agent find out themselves.
	switch {
	case !prefixed:
	case below(domain, "node-restriction.kubernetes.io"):
		return "a node may not give itself labels of node-restriction.kubernetes.io"
	case key == "node.kubernetes.io/instance-type":
		return "the instance itself says its type"
	case below(domain, "kubelet.kubernetes.io"), below(domain, "node.kubernetes.io"):
	case below(domain, "kubernetes.io"), below(domain, "k8s.io"):
		return "of kubernetes.io and k8s.io, tags give labels of node.kubernetes.io and kubelet.kubernetes.io only"
	}
	return ""
}

func below(domain, parent string) bool {
	return domain == parent || strings.HasSuffix(domain, "."+parent)
}

// checkTaint says what is wrong with a taint, whose tag's value is "value:Effect".
func checkTaint(key, tag string) string {
	if wrong := content.IsLabelKey(key); len(wrong) > 0 {
		return fmt.Sprintf("%q is no taint's key: %s", key, wrong[0])
	}
	value, effect, ok := strings.Cut(tag, ":")
	effects := []string{"NoSchedule", "PreferNoSchedule", "NoExecute"}
	if !ok || !slices.Contains(effects, effect) {
		return "want value:Effect, the effect one of " + strings.Join(effects, ", ")
	}
	if wrong := content.IsLabelValue(value); len(wrong) > 0 {
		return fmt.Sprintf("%q is no taint's value: %s", value, wrong[0])
	}
	return ""
}

const taintsFlag = "--register-with-taints"

// taintFlags returns the flag that adds the tags' taints to those of the user, which win by
// key and effect. kubelet takes the last such flag alone, and prefers it to its configuration,
// so it has to name them all.
func taintFlags(in Input) []string {
	if len(in.FromTags.taints) == 0 {
		return nil
	}
	var taints []string
	if value, ok := lastFlag(in.UserFlags, taintsFlag); ok {
		if value != "" {
			taints = strings.Split(value, ",")
		}
	} else {
		taints = configuredTaints(in.UserConfig)
	}
	given := map[string]bool{}
	for _, taint := range taints {
		given[keyAndEffect(taint)] = true
	}
	for _, taint := range in.FromTags.taints {
		if !given[keyAndEffect(taint)] {
			taints = append(taints, taint)
		}
	}
	return []string{taintsFlag + "=" + strings.Join(taints, ",")}
}

// configuredTaints writes registerWithTaints of a KubeletConfiguration as the flag has them.
func configuredTaints(config map[string]any) []string {
	list, _ := config["registerWithTaints"].([]any)
	var taints []string
	for _, item := range list {
		taint, _ := item.(map[string]any)
		key, _ := taint["key"].(string)
		value, _ := taint["value"].(string)
		effect, _ := taint["effect"].(string)
		if value != "" {
			key += "=" + value
		}
		taints = append(taints, key+":"+effect)
	}
	return taints
}

func keyAndEffect(taint string) string {
	rest, effect, _ := strings.Cut(taint, ":")
	key, _, _ := strings.Cut(rest, "=")
	return key + ":" + effect
}
