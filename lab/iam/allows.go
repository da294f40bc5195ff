package iam

import (
	"encoding/json"
	"path"
	"slices"
	"strings"
)

// Allows tells whether the policies that a role has on record allow an action, such as
// ec2:AttachVolume, to a session of the role. It looks at the actions that they name and at no
// resources, and passes over a denial that has a condition; AWS's own policies are not on record.
func (s *Store) Allows(session, action string) bool {
	_, rest, _ := strings.Cut(session, ":assumed-role/")
	name, _, _ := strings.Cut(rest, "/")
	all := s.look()
	role, ok := all.Roles[name]
	if !ok {
		return false
	}
	var documents []any
	for _, document := range role.Inline {
		documents = append(documents, document)
	}
	for _, arn := range role.Managed {
		if policy, ok := all.Policies[strings.TrimPrefix(arn, s.policyARN(""))]; ok {
			documents = append(documents, policy.Document)
		}
	}
	allowed := false
	for _, document := range documents {
		for _, statement := range statements(document) {
			if !names(statement, action) {
				continue
			}
			if statement["Effect"] == "Deny" && statement["Condition"] == nil {
				return false
			}
			allowed = allowed || statement["Effect"] == "Allow"
		}
	}
	return allowed
}

// statements are those of a document that CheckDocument has passed.
func statements(document any) []map[string]any {
	if text, ok := document.(string); ok {
		document = nil
		_ = json.Unmarshal([]byte(text), &document) // it was read before
	}
	object, _ := document.(map[string]any)
	if single, ok := object["Statement"].(map[string]any); ok {
		return []map[string]any{single}
	}
	list, _ := object["Statement"].([]any)
	var all []map[string]any
	for _, v := range list {
		if statement, ok := v.(map[string]any); ok {
			all = append(all, statement)
		}
	}
	return all
}

// names tells whether a statement is about an action. In patterns * is any text and ? one
// character, and case does not count.
func names(statement map[string]any, action string) bool {
	matches := func(patterns []string) bool {
		return slices.ContainsFunc(patterns, func(pattern string) bool {
			ok, _ := path.Match(strings.ToLower(pattern), strings.ToLower(action)) // actions have no slash and no bracket
			return ok
		})
	}
	if not, ok := texts(statement["NotAction"]); ok {
		return !matches(not)
	}
	patterns, _ := texts(statement["Action"])
	return matches(patterns)
}
