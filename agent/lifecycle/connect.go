package lifecycle

import (
	"bytes"
	"net/http"
	"net/url"
	"time"

	"github.com/ovenbird-dev/ovenbird/agent/apiserver"
	"github.com/ovenbird-dev/ovenbird/agent/identity"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// Connector makes clients of the API server as the node, by kubelet's certificate as it is
// on disk or by tokens.
type Connector struct {
	Root      rootfs.Root
	Config    Config
	Tokens    *identity.Tokens
	Proxy     func(*http.Request) (*url.URL, error)
	UserAgent string
	Now       func() time.Time

	pair   identity.Pair
	client *apiserver.Client
}

// Connect returns a client, the last one unless kubelet has renewed the certificate.
func (c *Connector) Connect() (*apiserver.Client, error) {
	config := apiserver.Config{
		Endpoint: c.Config.Cluster.Endpoint, CA: c.Config.Cluster.CA, Proxy: c.Proxy, UserAgent: c.UserAgent,
	}
	var pair identity.Pair
	if c.Config.Identity == identity.Token {
		config.Token = c.Tokens.Token
	} else {
		var err error
		store := identity.Store{Root: c.Root, NodeName: c.Config.Node, Cluster: c.Config.Cluster, Now: c.Now}
		if pair, err = store.Current(); err != nil {
			return nil, err
		}
		config.Certificate, config.Key = pair.Certificate, pair.Key
	}
	if c.client != nil && bytes.Equal(pair.Certificate, c.pair.Certificate) {
		return c.client, nil
	}
	client, err := apiserver.New(config)
	if err != nil {
		return nil, err
	}
	c.client, c.pair = client, pair
	return client, nil
}
