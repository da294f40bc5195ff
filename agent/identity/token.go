package identity

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ovenbird-dev/ovenbird/agent/discover"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

// Kind is by what the node proves who it is.
type Kind string

// A certificate that the cluster signs, a token for each of which the agent is asked, or
// what the cluster takes.
const (
	Auto        Kind = "auto"
	Certificate Kind = "certificate"
	Token       Kind = "token"
)

// ParseKind returns the kind that text names.
func ParseKind(text string) (Kind, error) {
	switch kind := Kind(text); kind {
	case Auto, Certificate, Token:
		return kind, nil
	}
	return "", fmt.Errorf("%q is none of %s, %s, %s", text, Auto, Certificate, Token)
}

// For returns the kind that cluster takes, when k leaves it open.
func (k Kind) For(cluster discover.Cluster) Kind {
	switch {
	case k == Certificate || k == Token:
		return k
	case cluster.IsAmazonEKS():
		return Token
	}
	return Certificate
}

// Tokens are the node's bearer tokens for one cluster, each used until it is about to end.
type Tokens struct {
	Signer  ststoken.Signer
	Cluster string
	Now     func() time.Time

	mu      sync.Mutex
	token   string
	made    time.Time
	expires time.Time
}

// Token returns a token that is good for a minute at least. One that was made before the
// clock was set is dated wrong, so the times are those of the wall clock: they have no
// monotonic reading, by which Go compares otherwise.
func (t *Tokens) Token(ctx context.Context) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.Now().Round(0)
	if t.token != "" && !now.Before(t.made) && now.Before(t.expires) {
		return t.token, nil
	}
	token, expires, err := t.Signer.Token(ctx, t.Cluster)
	if err != nil {
		return "", err
	}
	t.token, t.made, t.expires = token, now, expires.Round(0)
	return token, nil
}
