package s3

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"go.uber.org/zap/zaptest"

	"github.com/ovenbird-dev/ovenbird/internal/sdktest"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// world is S3 over TLS, with the bucket "backups" in us-west-2.
type world struct {
	*sdk.Client
	t       *testing.T
	dir     string
	store   *Store
	server  *httptest.Server
	allowed []string // to the role
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: filepath.Join(t.TempDir(), "buckets")}
	w.server = httptest.NewUnstartedServer(nil)
	w.open()
	w.server.StartTLS()
	t.Cleanup(w.server.Close)
	w.Client = w.as("AKIA", "", "us-west-2")
	must(t, w.store.Make("backups", ""))
	return w
}

// open reads the directory, as a new daemon does.
func (w *world) open() {
	w.t.Helper()
	w.store = &Store{Dir: w.dir, Region: "us-west-2", Now: time.Now}
	must(w.t, w.store.Open())
	service := Service{Plan: vpc.Default(), Buckets: w.store, Allowed: func(_, action string) bool {
		for _, a := range w.allowed {
			if a == action {
				return true
			}
		}
		return false
	}}
	w.server.Config.Handler = wire.Endpoint{
		Services: []wire.Service{service},
		Keys: sdktest.Keys{
			"AKIA": {AccessKeyID: "AKIA", SecretAccessKey: "secret", ARN: "arn:aws:iam::111122223333:user/admin"},
			"ASIA": {AccessKeyID: "ASIA", SecretAccessKey: "secret", SessionToken: "t", ARN: "arn:aws:sts::111122223333:assumed-role/ovenbird-node/i-1"},
		},
		Regions: vpc.Default().Regions(), Now: time.Now, Logger: zaptest.NewLogger(w.t),
	}
}

func (w *world) as(key, token, region string) *sdk.Client {
	return sdk.New(sdk.Options{
		Region: region, BaseEndpoint: aws.String(w.server.URL), HTTPClient: sdktest.Client(w.server), Retryer: aws.NopRetryer{}, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(key, "secret", token),
	})
}

// put stores an object as the SDK does by itself: in chunks, with a checksum behind them.
func (w *world) put(key, content string) *sdk.PutObjectOutput {
	w.t.Helper()
	out, err := w.PutObject(w.t.Context(), &sdk.PutObjectInput{Bucket: aws.String("backups"), Key: &key, Body: strings.NewReader(content)})
	must(w.t, err)
	return out
}

func (w *world) get(key string) (string, error) {
	out, err := w.GetObject(w.t.Context(), &sdk.GetObjectInput{Bucket: aws.String("backups"), Key: &key})
	if err != nil {
		return "", err
	}
	defer out.Body.Close()
	data, err := io.ReadAll(out.Body)
	return string(data), err
}

// call is a request that no SDK makes.
type call struct {
	method, target string
	body           string
	header         map[string]string
	payload        string // what is signed for the body; empty: its SHA-256
	change         func(*http.Request)
}

// answered is an error of S3, or none, and the response.
type answered struct {
	*http.Response
	Body               string
	Code, Message      string
	Region, BucketName string
}

// send signs and makes a call, and changes it on the way.
func (w *world) send(c call) answered {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), c.method, w.server.URL+c.target, strings.NewReader(c.body))
	must(w.t, err)
	if c.body == "" {
		r.Body = nil
	}
	for name, value := range c.header {
		r.Header.Set(name, value)
	}
	if c.payload == "" {
		sum := sha256.Sum256([]byte(c.body))
		c.payload = hex.EncodeToString(sum[:])
	}
	r.Header.Set("X-Amz-Content-Sha256", c.payload)
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	must(w.t, signer.SignHTTP(w.t.Context(), aws.Credentials{AccessKeyID: "AKIA", SecretAccessKey: "secret"}, r, c.payload, "s3", "us-west-2", time.Now()))
	if c.change != nil {
		c.change(r)
	}
	response, err := sdktest.Client(w.server).Do(r)
	must(w.t, err)
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	must(w.t, err)
	a := answered{Response: response, Body: string(data)}
	if bytes.Contains(data, []byte("<Error>")) {
		var body struct{ Code, Message, Region, BucketName string }
		must(w.t, xml.Unmarshal(data, &body))
		a.Code, a.Message, a.Region, a.BucketName = body.Code, body.Message, body.Region, body.BucketName
	}
	return a
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func refused(t *testing.T, err error, code, message string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), message) {
		t.Errorf("got %v, want %s with %q", err, code, message)
	}
}
