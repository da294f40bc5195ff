package ec2

import (
	"encoding/base64"
	"slices"
	"strings"
)

// page reads MaxResults and NextToken. The set is what the IDs, which are not to be paged,
// are called in a refusal.
func (p *params) page(byID bool, set string) (limit int, after string) {
	limit = 1000
	if p.has("MaxResults") {
		limit = p.integer("MaxResults", 0)
		if limit < 5 || limit > 1000 {
			p.fail(invalid("InvalidParameterValue", "Value ( %d ) for parameter maxResults is invalid. Expecting a value between 5 and 1000.", limit))
			limit = 1000
		}
		if byID {
			p.fail(invalid("InvalidParameterCombination", "The parameter %s cannot be used with the parameter maxResults", set))
		}
	}
	if p.text("NextToken") == "" {
		return limit, ""
	}
	token, err := base64.RawURLEncoding.DecodeString(p.text("NextToken"))
	after, ours := strings.CutPrefix(string(token), tokenPrefix)
	if err != nil || !ours {
		p.fail(invalid("InvalidNextToken", "The token '%s' is invalid", p.text("NextToken")))
	}
	return limit, after
}

// tokenPrefix tells this service's tokens from other text.
const tokenPrefix = "after "

// cut is the page of a list that begins after a position, and the token of the next one.
// Pages are in the order of positions, so that one can begin after what is gone by then.
func cut[T any](list []T, limit int, after string, position func(T) string) (page []T, next string) {
	slices.SortStableFunc(list, func(a, b T) int { return strings.Compare(position(a), position(b)) })
	for len(list) > 0 && position(list[0]) <= after {
		list = list[1:]
	}
	if len(list) > limit {
		list = list[:limit]
		next = base64.RawURLEncoding.EncodeToString([]byte(tokenPrefix + position(list[limit-1])))
	}
	return list, next
}
