package fleet

import (
	"errors"
	"maps"
	"strings"
)

// ErrTooManyTags is Tag's answer when a resource would have more than EC2 lets it.
var ErrTooManyTags = errors.New("more than 50 tags")

// maxTags is how many tags a resource may have besides AWS's own.
const maxTags = 50

// Tag changes the tags of an instance, of its root volume or of its network interface,
// as Retag does. A *NotFoundError names what the fleet does not have.
func (f *Fleet) Tag(id string, set map[string]string, remove map[string]*string) error {
	owner := ""
	for _, i := range f.Instances() {
		if tagsOf(&i, id) != nil {
			owner = i.ID
		}
	}
	if owner == "" {
		return &NotFoundError{IDs: []string{id}}
	}
	_, err := f.command([]string{owner}, func(i *Instance) error {
		tags := tagsOf(i, id)
		changed := Retag(*tags, set, remove) // snapshots keep theirs
		if UserTags(changed) > maxTags {
			return ErrTooManyTags
		}
		*tags = changed
		return nil
	})
	return err
}

// Retag is tags with some set and some removed, those that are removed with a value only
// where they have it.
func Retag(tags, set map[string]string, remove map[string]*string) map[string]string {
	changed := maps.Clone(tags)
	if changed == nil {
		changed = map[string]string{}
	}
	maps.Copy(changed, set)
	for key, value := range remove {
		if old, ok := changed[key]; ok && (value == nil || *value == old) {
			delete(changed, key)
		}
	}
	return changed
}

// tagsOf are the tags of what has the ID, if it is the instance's.
func tagsOf(i *Instance, id string) *map[string]string {
	switch id {
	case i.ID:
		return &i.Tags
	case i.VolumeID:
		return &i.VolumeTags
	case i.InterfaceID:
		return &i.InterfaceTags
	}
	return nil
}

// UserTags counts the tags without AWS's own, which no limit holds for.
func UserTags(tags map[string]string) int {
	n := 0
	for key := range tags {
		if !strings.HasPrefix(strings.ToLower(key), "aws:") {
			n++
		}
	}
	return n
}
