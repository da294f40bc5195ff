package eks

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// This service looks into nothing by itself yet, and so has no insights to tell.

type insightsRequest struct {
	Filter struct {
		Categories         []string `json:"categories"`
		KubernetesVersions []string `json:"kubernetesVersions"`
		Statuses           []string `json:"statuses"`
	} `json:"filter"`
	MaxResults *int   `json:"maxResults"`
	NextToken  string `json:"nextToken"`
}

func (a *api) listInsights(ctx context.Context, r *http.Request) (any, error) {
	name := r.PathValue("name")
	if _, err := a.cluster(ctx, name); err != nil {
		return nil, err
	}
	var request insightsRequest
	if r.ContentLength != 0 {
		if _, err := readJSON(r, &request); err != nil {
			return nil, err
		}
	}
	query := url.Values{"nextToken": {request.NextToken}}
	if request.MaxResults != nil {
		query.Set("maxResults", strconv.Itoa(*request.MaxResults))
	}
	if _, _, err := page(nil, query); err != nil {
		return nil, err
	}
	for _, filter := range []struct {
		name          string
		given, values []string
	}{
		{"filter.categories", request.Filter.Categories, []string{"UPGRADE_READINESS", "MISCONFIGURATION", "ROLLBACK_READINESS"}},
		{"filter.statuses", request.Filter.Statuses, []string{"PASSING", "WARNING", "ERROR", "UNKNOWN"}},
	} {
		for _, given := range filter.given {
			if !slices.Contains(filter.values, given) {
				return nil, invalidParameter(name, "%s: %.40q is not one of %s", filter.name, given, strings.Join(filter.values, ", "))
			}
		}
	}
	return struct {
		Insights []struct{} `json:"insights"`
	}{[]struct{}{}}, nil
}

func (a *api) describeInsight(ctx context.Context, r *http.Request) (any, error) {
	name := r.PathValue("name")
	if _, err := a.cluster(ctx, name); err != nil {
		return nil, err
	}
	return nil, notFound(name, "No insight found for ID: %.100s", r.PathValue("insight"))
}
