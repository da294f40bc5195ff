package boot

import (
	"context"
	"errors"
	"fmt"
	"os"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/agent/apiserver"
	"github.com/ovenbird-dev/ovenbird/agent/identity"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

func (n *node) store() identity.Store {
	return identity.Store{Root: n.Root, NodeName: n.facts.NodeName(), Cluster: n.facts.Cluster, Now: n.Clock.Now}
}

// identify makes the node able to say who it is: by tokens, or by its certificate, the one
// on disk or a new one.
func (n *node) identify(ctx context.Context, tell func(string)) error {
	n.tokens = &identity.Tokens{Signer: n.signer(), Cluster: n.facts.Cluster.Name, Now: n.Clock.Now}
	if err := n.Root.Apply(n.facts.bootstrapKubeconfig()); err != nil {
		return err
	}
	if n.facts.kind() == identity.Token {
		return n.pointKubelet()
	}
	store := n.store()
	pair, err := store.Current()
	if err == nil {
		n.pair = pair
		return n.pointKubelet() // the endpoint may be new
	}
	if !errors.Is(err, os.ErrNotExist) {
		n.Log.Info("the identity on disk cannot be used", zap.Error(err))
	}
	client, err := n.connect(apiserver.Config{Token: n.tokens.Token})
	if err != nil {
		return err
	}
	request, err := store.Request()
	if err != nil {
		return err
	}
	tell("certificate request " + request.Name)
	certificate, err := client.SignNodeCertificate(ctx, request.Name, request.PEM)
	var denied *apiserver.DeniedError
	switch {
	case errors.As(err, &denied):
		return errors.Join(err, store.Discard())
	case errors.Is(err, apiserver.ErrUnauthorized):
		return n.unknown(err)
	case err != nil:
		return err
	}
	if err := n.Root.Apply(stale(kubeletUnit)); err != nil {
		return err
	}
	n.pair, err = store.Save(request, certificate)
	return err
}

// pointKubelet writes kubelet's kubeconfig.
func (n *node) pointKubelet() error {
	kubeconfig := n.facts.kubeconfig()
	if err := n.markStale(kubeletUnit, []rootfs.File{kubeconfig}); err != nil {
		return err
	}
	return n.Root.Apply(kubeconfig)
}

// unknown says what to do when the cluster does not know who shows a token.
func (n *node) unknown(err error) error {
	if n.facts.Cluster.IsAmazonEKS() {
		return fmt.Errorf("%w (has the cluster an access entry of type EC2_LINUX for this instance's role?)", err)
	}
	return fmt.Errorf("%w (has the cluster an access entry of type EC2_LINUX for this instance's role, and the instance the tag kubernetes.io/cluster/%s?)", err, n.facts.Cluster.Name)
}

func (n *node) connect(config apiserver.Config) (*apiserver.Client, error) {
	config.Endpoint, config.CA = n.facts.Cluster.Endpoint, n.facts.Cluster.CA
	config.Proxy, config.UserAgent = n.env.proxy(), "ovenbird-agent/"+n.Release
	config.Wrap, config.Now = n.Traffic.APIServer.Wrap, n.Clock.Now
	return apiserver.New(config)
}

func (n *node) awaitAPIServer(ctx context.Context, tell func(string)) error {
	config := apiserver.Config{Certificate: n.pair.Certificate, Key: n.pair.Key}
	tokens := n.facts.kind() == identity.Token
	if tokens {
		config = apiserver.Config{Token: n.tokens.Token}
	}
	client, err := n.connect(config)
	if err != nil {
		return err
	}
	err = client.Ready(ctx)
	switch {
	case errors.Is(err, apiserver.ErrUnauthorized) && tokens:
		return n.unknown(err)
	case errors.Is(err, apiserver.ErrUnauthorized):
		// The cluster was made anew with the same authority, say. Ask for another
		// certificate; the next attempt uses it.
		if err := n.store().Forget(); err != nil {
			return err
		}
		return errors.Join(err, n.identify(ctx, tell))
	}
	n.client = client
	return err
}
