package eks

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// clusterVersion is a Kubernetes version on the wire. EKS has dates on which support ends;
// this service supports what it has the components of.
type clusterVersion struct {
	Version         string `json:"clusterVersion"`
	Type            string `json:"clusterType"`
	PlatformVersion string `json:"defaultPlatformVersion"`
	Default         bool   `json:"defaultVersion"`
	Patch           string `json:"kubernetesPatchVersion,omitempty"`
	Status          string `json:"status"` // what versionStatus was called first
	VersionStatus   string `json:"versionStatus"`
}

const (
	clusterType     = "eks"
	standardSupport = "STANDARD_SUPPORT"
)

func (a *api) describeClusterVersions(_ context.Context, r *http.Request) (any, error) {
	query := r.URL.Query()
	wanted, err := a.versions(query)
	if err != nil {
		return nil, err
	}
	shown, next, err := page(wanted, query)
	if err != nil {
		return nil, err
	}
	answer := struct {
		Versions  []clusterVersion `json:"clusterVersions"`
		NextToken string           `json:"nextToken,omitempty"`
	}{[]clusterVersion{}, next}
	for _, version := range shown {
		v := clusterVersion{
			Version: version, Type: clusterType, PlatformVersion: platformVersion, Default: version == a.defaultVersion(),
			Status: supportOnTheWire(standardSupport), VersionStatus: standardSupport,
		}
		if a.Patch != nil {
			if v.Patch, err = a.Patch(version); err != nil {
				return nil, err
			}
		}
		answer.Versions = append(answer.Versions, v)
	}
	return answer, nil
}

func (a *api) defaultVersion() string { return a.Versions[len(a.Versions)-1] }

// versions returns those on offer that the query asks for.
func (a *api) versions(query url.Values) ([]string, error) {
	all := []string{standardSupport, "EXTENDED_SUPPORT", "UNSUPPORTED"}
	matches := true
	for _, parameter := range []string{"versionStatus", "status"} {
		given := query.Get(parameter)
		if given == "" {
			continue
		}
		i := slices.IndexFunc(all, func(s string) bool { return s == given || supportOnTheWire(s) == given && parameter == "status" })
		if i < 0 {
			return nil, invalidParameter("", "%s: %.40q is not a status of versions", parameter, given)
		}
		matches = matches && all[i] == standardSupport
	}
	if kind := query.Get("clusterType"); !matches || kind != "" && kind != clusterType {
		return nil, nil
	}
	named, defaultOnly := query["clusterVersions"], query.Get("defaultOnly") == "true"
	return slices.DeleteFunc(slices.Clone(a.Versions), func(v string) bool {
		return len(named) > 0 && !slices.Contains(named, v) || defaultOnly && v != a.defaultVersion()
	}), nil
}

// supportOnTheWire spells a status as the older member does.
func supportOnTheWire(status string) string {
	return strings.ReplaceAll(strings.ToLower(status), "_", "-")
}
