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
	"github.com/ovenbird-dev/ovenbird/control-plane/iam"
	"github.com/ovenbird-dev/ovenbird/control-plane/oidc"
	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// withIssuers publishes the clusters' issuers beside the EKS API, to anybody who does not ask
// more often than a caller of that may.
func withIssuers(api http.Handler, clusters *registry.Registry, stateDir string, log *zap.Logger) http.Handler {
	routes := http.NewServeMux()
	routes.Handle("/", api)
	published := oidc.New(func(ctx context.Context) ([]oidc.Issuer, error) {
		return issuers(ctx, clusters, stateDir, log)
	}, log, time.Now)
	routes.Handle("/id/", limited(iam.NewLimiter(callRate, callBurst, nil), published))
	return routes
}

// limited refuses a source that has to wait.
func limited(limit *iam.Limiter, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := limit.Allow(iam.Source(r)); err != nil {
			w.Header().Set("Retry-After", "1")
			http.Error(w, err.Error(), http.StatusTooManyRequests)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// clusterLister lists clusters; *registry.Registry does.
type clusterLister interface {
	List(ctx context.Context) ([]registry.Cluster, error)
}

// issuers leaves out those whose key cannot be read: the others are no worse for it.
func issuers(ctx context.Context, clusters clusterLister, stateDir string, log *zap.Logger) ([]oidc.Issuer, error) {
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
			log.Error("the issuer of a cluster is not published", zap.String("cluster", c.Name), zap.Error(err))
			continue
		}
		found = append(found, oidc.Issuer{URL: c.Issuer, Keys: []*ecdsa.PublicKey{key}})
	}
	return found, nil
}
