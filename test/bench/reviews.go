package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"golang.org/x/sync/errgroup"
	authentication "k8s.io/api/authentication/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

// stsOfKitchen verifies signatures as STS does. An access key is the ARN of its holder, with
// bars for slashes.
type stsOfKitchen struct{}

func (stsOfKitchen) Lookup(_ context.Context, key string) (sigv4.Credential, error) {
	return sigv4.Credential{AccessKeyID: key, SecretAccessKey: benchSecret, ARN: strings.ReplaceAll(key, "|", "/")}, nil
}

func (s stsOfKitchen) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	caller, err := sigv4.Verifier{Keys: s, Region: "us-west-2", Service: "sts"}.Verify(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	fmt.Fprintf(w, `{"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Account":"111122223333","Arn":%q,"UserId":"AID"}}}`, caller.ARN)
}

// measureReviews asks a new webhook about the token of every node, which finds nothing
// cached, and then about the same tokens again, while the answers of STS and EC2 are fresh.
func (k *kitchen) measureReviews(ctx context.Context) ([]Entry, error) {
	var cold, warm, coldTail, warmTail []float64
	for run := range reviewRuns {
		bodies, err := k.reviews(ctx)
		if err != nil {
			return nil, err
		}
		webhook, stop, err := k.webhook(ctx)
		if err != nil {
			return nil, err
		}
		client, url := webhook.Client(), webhook.URL+"/clusters/"+benchCluster+"/tokenreview"
		client.Transport.(*http.Transport).MaxIdleConnsPerHost = callers
		rate, tail, err := askAll(ctx, client, url, bodies)
		if err == nil {
			cold, coldTail = append(cold, rate), append(coldTail, tail)
			rate, tail, err = askAll(ctx, client, url, slices.Repeat(bodies[len(bodies)-callers:], len(bodies)/callers))
			warm, warmTail = append(warm, rate), append(warmTail, tail)
		}
		stop()
		if err != nil {
			return nil, err
		}
		progress("run %d: %.0f token reviews a second with nothing cached, 99%% within %.1f ms; %.0f and %.1f ms cached", run+1, cold[run], coldTail[run], warm[run], warmTail[run])
	}
	return []Entry{
		compared("token reviews, nothing cached", "1/s", "all cached", cold, warm),
		compared("token review, 99th percentile, nothing cached", "ms", "all cached", coldTail, warmTail),
	}, nil
}

// reviews are what an API server sends, one for each good node, with new tokens.
func (k *kitchen) reviews(ctx context.Context) (bodies [][]byte, err error) {
	for n := range goodNodes {
		arn := "arn:aws:sts::111122223333:assumed-role|ovenbird-node|" + memberID(n)
		signer := ststoken.Signer{Region: "us-west-2", Endpoint: k.sts.URL + "/", Credentials: credentials.NewStaticCredentialsProvider(arn, benchSecret, "")}
		token, _, err := signer.Token(ctx, benchCluster)
		if err != nil {
			return nil, err
		}
		body, err := json.Marshal(authentication.TokenReview{
			TypeMeta: meta.TypeMeta{Kind: "TokenReview", APIVersion: authentication.SchemeGroupVersion.String()},
			Spec:     authentication.TokenReviewSpec{Token: token},
		})
		if err != nil {
			return nil, err
		}
		bodies = append(bodies, body)
	}
	return bodies, nil
}

// askAll sends every body, a few at once, and returns how many were answered a second and
// within how many milliseconds 99 of 100 were. All must be accepted.
func askAll(ctx context.Context, client *http.Client, url string, bodies [][]byte) (rate, tail float64, err error) {
	took := make([]float64, len(bodies))
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for caller := range callers {
		group.Go(func() error {
			for i := caller; i < len(bodies); i += callers {
				asked := time.Now()
				if err := ask(ctx, client, url, bodies[i]); err != nil {
					return err
				}
				took[i] = float64(time.Since(asked).Microseconds()) / 1000
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, 0, err
	}
	rate = float64(len(bodies)) / time.Since(began).Seconds()
	slices.Sort(took)
	return rate, took[len(took)*99/100], nil
}

func ask(ctx context.Context, client *http.Client, url string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var review authentication.TokenReview
	if err := json.NewDecoder(response.Body).Decode(&review); err != nil {
		return fmt.Errorf("read the answer to a token review: %w", err)
	}
	if !review.Status.Authenticated {
		return errors.New("the token of a node was refused")
	}
	return nil
}
