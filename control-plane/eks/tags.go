package eks

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// AWS's own limits of tags.
const (
	maxTags     = 50
	maxTagKey   = 128
	maxTagValue = 256
)

// tagProblem says what is wrong with tags that a resource should have, or nothing.
func tagProblem(tags map[string]string) string {
	if len(tags) > maxTags {
		return "at most 50 tags are allowed"
	}
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		length := utf8.RuneCountInString(key)
		if length == 0 || length > maxTagKey || utf8.RuneCountInString(tags[key]) > maxTagValue || strings.HasPrefix(strings.ToLower(key), "aws:") {
			return "a key has 1 to 128 characters and does not begin with aws:, and a value has at most 256"
		}
	}
	return ""
}

// checkTags refuses a request to create something with such tags.
func checkTags(name string, tags map[string]string) error {
	if problem := tagProblem(tags); problem != "" {
		return invalidParameter(name, "tags: %s", problem)
	}
	return nil
}

// tagged is what carries tags: a cluster, or one of its access entries.
type tagged struct {
	cluster   string
	principal string // of the access entry
	tags      map[string]string
}

// tagged finds the resource with the ARN that a caller named.
func (a *api) tagged(ctx context.Context, arn string) (tagged, error) {
	resource, ours := strings.CutPrefix(arn, a.arn(""))
	if !ours {
		return tagged{}, badTags("The resource ARN is not one of Amazon EKS in this region and account")
	}
	kind, rest, _ := strings.Cut(resource, "/")
	name, _, within := strings.Cut(rest, "/")
	switch {
	case !registry.ValidName(name):
	case kind == "cluster" && !within:
		c, err := a.Registry.Get(ctx, name)
		if !errors.Is(err, registry.ErrNotFound) {
			return tagged{cluster: name, tags: c.Tags}, err
		}
	case kind == "access-entry":
		entries, err := a.Registry.ListAccessEntries(ctx, name)
		if err != nil {
			return tagged{}, err
		}
		if i := slices.IndexFunc(entries, func(e registry.AccessEntry) bool { return e.ARN == arn }); i >= 0 {
			return tagged{cluster: name, principal: entries[i].PrincipalARN, tags: entries[i].Tags}, nil
		}
	}
	return tagged{}, noResource(arn)
}

// changeTags lets change edit the tags of the resource, again and again until nobody came
// in between.
func (a *api) changeTags(ctx context.Context, arn string, change func(map[string]string)) (any, error) {
	resource, err := a.tagged(ctx, arn)
	if err != nil {
		return nil, err
	}
	edit := func(tags *map[string]string) error {
		if *tags == nil {
			*tags = map[string]string{}
		}
		change(*tags)
		if problem := tagProblem(*tags); problem != "" {
			return badTags("tags: " + problem)
		}
		return nil
	}
	if resource.principal == "" {
		_, err = a.Registry.Change(ctx, resource.cluster, func(c *registry.Cluster) error { return edit(&c.Tags) })
	} else {
		_, err = a.Registry.ChangeAccessEntry(ctx, resource.cluster, resource.principal, func(e *registry.AccessEntry) error {
			if e.ARN != arn { // deleted and made anew meanwhile
				return registry.ErrNotFound
			}
			return edit(&e.Tags)
		})
	}
	if errors.Is(err, registry.ErrNotFound) {
		err = noResource(arn)
	}
	return struct{}{}, err
}

func (a *api) listTags(ctx context.Context, r *http.Request) (any, error) {
	resource, err := a.tagged(ctx, r.PathValue("arn"))
	if err != nil {
		return nil, err
	}
	if resource.tags == nil {
		resource.tags = map[string]string{}
	}
	return struct {
		Tags map[string]string `json:"tags"`
	}{resource.tags}, nil
}

type tagRequest struct {
	Tags map[string]string `json:"tags"`
}

func (a *api) tag(ctx context.Context, r *http.Request) (any, error) {
	var request tagRequest
	if _, err := readJSON(r, &request); err != nil {
		return nil, err
	}
	if len(request.Tags) == 0 {
		return nil, badTags("tags: at least one is required")
	}
	return a.changeTags(ctx, r.PathValue("arn"), func(tags map[string]string) { maps.Copy(tags, request.Tags) })
}

func (a *api) untag(ctx context.Context, r *http.Request) (any, error) {
	keys := r.URL.Query()["tagKeys"]
	if len(keys) == 0 || len(keys) > maxTags {
		return nil, badTags("tagKeys: 1 to 50 are required")
	}
	return a.changeTags(ctx, r.PathValue("arn"), func(tags map[string]string) {
		for _, key := range keys {
			delete(tags, key)
		}
	})
}

// The tag operations have exceptions of their own.

func badTags(message string) error {
	return &apiError{http.StatusBadRequest, "BadRequestException", message, ""}
}

func noResource(arn string) error {
	return &apiError{http.StatusNotFound, "NotFoundException", "No resource found for ARN: " + arn, ""}
}
