package ecr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	apiVersion = "credentialprovider.kubelet.k8s.io/v1"
	// maxRequest is far more than the name of any image is long, in bytes. A request can
	// hold a service account's token too, which is nothing to us.
	maxRequest = 64 << 10
)

// response is kubelet's CredentialProviderResponse (k8s.io/kubelet, credentialprovider/v1).
type response struct {
	APIVersion    string          `json:"apiVersion"`
	Kind          string          `json:"kind"`
	CacheKeyType  string          `json:"cacheKeyType"`
	CacheDuration string          `json:"cacheDuration"`
	Auth          map[string]auth `json:"auth"`
}

type auth struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// Provide answers one CredentialProviderRequest of kubelet's.
func Provide(ctx context.Context, client Client, in io.Reader, out io.Writer) error {
	data, err := io.ReadAll(io.LimitReader(in, maxRequest+1))
	if err != nil {
		return fmt.Errorf("read kubelet's request: %w", err)
	}
	var request struct{ APIVersion, Kind, Image string }
	if len(data) > maxRequest || json.Unmarshal(data, &request) != nil {
		return errors.New("standard input is not a CredentialProviderRequest (kubelet runs this command)")
	}
	if request.APIVersion != apiVersion || request.Kind != "CredentialProviderRequest" {
		return fmt.Errorf("kubelet asks with a %q of %q: want CredentialProviderRequest of %s", request.Kind, request.APIVersion, apiVersion)
	}
	registry, err := RegistryOf(request.Image)
	if err != nil {
		return err
	}
	login, err := client.Login(ctx, registry)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(response{
		APIVersion: apiVersion, Kind: "CredentialProviderResponse",
		CacheKeyType:  "Registry",
		CacheDuration: cacheFor(login.Expires, time.Now()).String(),
		Auth:          map[string]auth{registry.Host: {login.Username, login.Password}},
	})
}

// cacheFor returns how long kubelet keeps credentials: half their life, as
// cloud-provider-aws says, and not at all when nobody knows that.
func cacheFor(expires, now time.Time) time.Duration {
	if expires.IsZero() {
		return 0
	}
	return max(0, expires.Sub(now)/2).Truncate(time.Second)
}
