package iam

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	authentication "k8s.io/api/authentication/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

const (
	// maxReview bounds a review; its token is at most 4 KiB.
	maxReview = 64 << 10
	// reviewTimeout is less than the 30 s that kube-apiserver waits for its webhook.
	reviewTimeout = 20 * time.Second
	// refused is all that a caller learns.
	refused = "the token is not accepted by this cluster"
)

// Registry finds clusters and access entries; *registry.Registry does, and Principals for
// clusters that have a ConfigMap aws-auth as well.
type Registry interface {
	Get(ctx context.Context, name string) (registry.Cluster, error)
	GetAccessEntry(ctx context.Context, cluster, principalARN string) (registry.AccessEntry, error)
}

// Tokens verifies bearer tokens; ststoken.Verifier does, and CachedTokens in front of it.
type Tokens interface {
	// Check tells, without a call, what can be no good token, and the ID of the access key
	// that one claims to be signed with.
	Check(token string) (accessKeyID string, err error)
	Verify(ctx context.Context, token, cluster string) (ststoken.Identity, error)
}

type webhook struct {
	registry  Registry
	tokens    Tokens
	instances Instances
	log       *zap.Logger
	throttled *zap.Logger // writes a message once a minute
}

// NewWebhook returns the token webhook of all clusters: TokenReview, version v1, at
// /clusters/{name}/tokenreview. Who may call it is for the listener to decide.
func NewWebhook(r Registry, tokens Tokens, instances Instances, log *zap.Logger) http.Handler {
	w := webhook{r, tokens, instances, log, log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(core, time.Minute, 1, 0)
	}))}
	routes := http.NewServeMux()
	routes.HandleFunc("POST /clusters/{name}/tokenreview", w.review)
	return routes
}

func (w webhook) review(response http.ResponseWriter, r *http.Request) {
	var review authentication.TokenReview
	body, err := io.ReadAll(http.MaxBytesReader(response, r.Body, maxReview))
	if err == nil {
		err = json.Unmarshal(body, &review)
	}
	if err != nil || review.Kind != "TokenReview" || review.APIVersion != authentication.SchemeGroupVersion.String() {
		http.Error(response, "want a TokenReview of "+authentication.SchemeGroupVersion.String(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), reviewTimeout)
	defer cancel()
	answer := authentication.TokenReview{TypeMeta: meta.TypeMeta{Kind: review.Kind, APIVersion: review.APIVersion}}
	answer.Status = w.judge(ctx, r.PathValue("name"), review.Spec.Token)
	response.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(response).Encode(answer) // kube-apiserver asks again if this fails
}

// judge never says yes to what it could not verify. An error in the status, unlike a plain
// no, is not cached by kube-apiserver, so that a node need not wait once its cause is gone.
func (w webhook) judge(ctx context.Context, cluster, token string) authentication.TokenReviewStatus {
	principal, user, err := w.identify(ctx, cluster, token)
	w.record(cluster, principal, user, err)
	if err != nil {
		return authentication.TokenReviewStatus{Error: refused}
	}
	// For the audit log, under the names that EKS uses.
	extra := map[string]authentication.ExtraValue{
		"arn": {principal.ARN}, "canonicalArn": {principal.CanonicalARN}, "principalId": {principal.UserID},
	}
	if principal.Session != "" {
		extra["sessionName"] = authentication.ExtraValue{principal.Session}
	}
	if principal.AccessKeyID != "" {
		extra["accessKeyId"] = authentication.ExtraValue{principal.AccessKeyID}
	}
	return authentication.TokenReviewStatus{Authenticated: true, User: authentication.UserInfo{
		Username: user.Name, UID: user.UID, Groups: user.Groups, Extra: extra,
	}}
}

// record is where every decision, and why, becomes known to those who run the service.
func (w webhook) record(cluster string, principal Principal, user User, refusal error) {
	if errors.Is(refusal, ErrThrottled) {
		// Anybody can cause these: the log must not grow with them.
		w.throttled.Info("tokens of cluster " + cluster + " refused: too many that are not known")
		return
	}
	log := w.log.With(zap.String("cluster", cluster), zap.String("caller", principal.ARN))
	if refusal != nil {
		log.Info("token refused", zap.Error(refusal))
		return
	}
	log.Debug("token accepted", zap.String("user", user.Name), zap.Strings("groups", user.Groups))
}

// identify returns who sent the token, and whom the cluster takes that to be. When only the
// first is known, it comes with the error.
func (w webhook) identify(ctx context.Context, name, token string) (Principal, User, error) {
	// First: anybody can send anything, and it must not cost a read.
	if _, err := w.tokens.Check(token); err != nil {
		return Principal{}, User{}, err
	}
	c, err := w.registry.Get(ctx, name)
	if err != nil {
		return Principal{}, User{}, err
	}
	if c.Deleting {
		return Principal{}, User{}, errors.New("the cluster is being deleted")
	}
	identity, err := w.tokens.Verify(ctx, token, name)
	if err != nil {
		return Principal{}, User{}, err
	}
	principal := NewPrincipal(identity)
	entry, err := w.registry.GetAccessEntry(ctx, name, principal.CanonicalARN)
	if err != nil {
		return principal, User{}, err
	}
	var user User
	switch entry.Type {
	case registry.TypeEC2Linux, registry.TypeEC2:
		user, err = instanceUser(ctx, w.instances, c, entry, principal)
	case registry.TypeStandard:
		user, err = standardUser(entry, principal)
	default:
		err = fmt.Errorf("the access entry is of the type %q, which is not known", entry.Type)
	}
	return principal, user, err
}
