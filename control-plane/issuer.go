package main

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"io/fs"
	"net/http"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/cluster"
	"github.com/ovenbird-dev/ovenbird/control-plane/oidc"
	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// withIssuers publishes the clusters' issuers beside the EKS API, to anybody.
func withIssuers(api http.Handler, clusters *registry.Registry, stateDir string, log *zap.Logger) http.Handler {
	routes := http.NewServeMux()
	routes.Handle("/", api)
	routes.Handle("/id/", oidc.New(func(ctx context.Context) ([]oidc.Issuer, error) {
		return issuers(ctx, clusters, stateDir)
	}, log, time.Now))
	return routes
}

func issuers(ctx context.Context, clusters *registry.Registry, stateDir string) ([]oidc.Issuer, error) {
	all, err := clusters.List(ctx)
	if err != nil {
		return nil, err
	}
	var found []oidc.Issuer
	for _, c := range all {
		if c.Issuer == "" {
			continue
		}
		key, err := pki.ReadPublicKey(filepath.Join(cluster.KeyDir(stateDir, c.Name), cluster.ServiceAccountKey+".pub"))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it is being made, or removed
		}
		if err != nil {
			return nil, err
		}
		found = append(found, oidc.Issuer{URL: c.Issuer, Keys: []*ecdsa.PublicKey{key}})
	}
	return found, nil
}
