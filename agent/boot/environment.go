package boot

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpproxy"

	"github.com/ovenbird-dev/ovenbird/agent/discover"
	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
)

// environment is the agent's own environment with spec.instance.environment.default over
// it, which reaches the agent without being set for the process: a NodeConfig that changes
// on a retry must not leave anything behind.
type environment map[string]string

func newEnvironment(process []string, config nodeconfig.Environment) environment {
	env := environment{}
	for _, assignment := range process {
		name, value, _ := strings.Cut(assignment, "=")
		env[name] = value
	}
	maps.Copy(env, config[nodeconfig.EnvironmentDefault])
	return env
}

// list returns it as programs get it, without what systemd says to the agent alone.
func (e environment) list() []string {
	var assignments []string
	for _, name := range slices.Sorted(maps.Keys(e)) {
		switch name {
		case "NOTIFY_SOCKET", "INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID":
		default:
			assignments = append(assignments, name+"="+e[name])
		}
	}
	return assignments
}

// first returns the first of the variables that has a value.
func (e environment) first(names ...string) string {
	for _, name := range names {
		if e[name] != "" {
			return e[name]
		}
	}
	return ""
}

// endpoint returns where the service is that the AWS SDKs call by variable.
func (e environment) endpoint(variable, name, region string) string {
	if endpoint := e.first("AWS_ENDPOINT_URL_"+variable, "AWS_ENDPOINT_URL"); endpoint != "" {
		return endpoint
	}
	return "https://" + name + "." + region + "." + discover.DNSSuffix(region) + "/"
}

// stsEndpoint returns where the token's verifier should ask.
func (e environment) stsEndpoint(region string) string { return e.endpoint("STS", "sts", region) }

// STSEndpoint returns where a token made with this environment should be verified.
func STSEndpoint(environ []string, region string) string {
	return newEnvironment(environ, nil).stsEndpoint(region)
}

// Proxy says through which proxy a request goes; nil is none.
type Proxy = func(*http.Request) (*url.URL, error)

// ProxyOf returns which proxy a request to the API server takes, from the agent's own
// environment with that of a NodeConfig over it.
func ProxyOf(process []string, config nodeconfig.Environment) Proxy {
	return newEnvironment(process, config).proxy()
}

// proxy decides as kubelet does.
func (e environment) proxy() Proxy {
	decide := (&httpproxy.Config{
		HTTPProxy:  e.first("HTTP_PROXY", "http_proxy"),
		HTTPSProxy: e.first("HTTPS_PROXY", "https_proxy"),
		NoProxy:    e.first("NO_PROXY", "no_proxy"),
	}).ProxyFunc()
	return func(r *http.Request) (*url.URL, error) { return decide(r.URL) }
}
