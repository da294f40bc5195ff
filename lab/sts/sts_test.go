package sts

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"go.uber.org/zap/zaptest"

	"github.com/ovenbird-dev/ovenbird/internal/sdktest"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

const (
	admin   = "arn:aws:iam::111122223333:user/admin"
	session = "arn:aws:sts::111122223333:assumed-role/ovenbird-node/i-0123456789abcdef0"
)

// serve is STS over TLS, as the lab has it.
func serve(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewTLSServer(wire.Endpoint{
		Services: []wire.Service{Service{Plan: vpc.Default()}},
		Keys: sdktest.Keys{
			"AKIAADMIN":   {AccessKeyID: "AKIAADMIN", SecretAccessKey: "secret", ARN: admin},
			"ASIASESSION": {AccessKeyID: "ASIASESSION", SecretAccessKey: "hush", SessionToken: "token", ARN: session},
			"ASIAOLD":     {AccessKeyID: "ASIAOLD", SecretAccessKey: "hush", SessionToken: "token", ARN: session, Expires: time.Now().Add(-time.Second)},
		},
		Regions: []string{"us-west-2"}, Now: time.Now, Logger: zaptest.NewLogger(t),
	})
	t.Cleanup(server.Close)
	return server
}

func client(server *httptest.Server, key, secret, token string) *sts.Client {
	return sts.New(sts.Options{
		Region: "us-west-2", BaseEndpoint: aws.String(server.URL), HTTPClient: sdktest.Client(server),
		Credentials: credentials.NewStaticCredentialsProvider(key, secret, token),
		Retryer:     aws.NopRetryer{},
	})
}

func TestTheSDKIsToldWhoItIs(t *testing.T) {
	server := serve(t)
	for _, c := range []struct{ name, key, secret, token, arn, userPrefix string }{
		{"administrator", "AKIAADMIN", "secret", "", admin, "AIDA"},
		{"instance role", "ASIASESSION", "hush", "token", session, "AROA"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := client(server, c.key, c.secret, c.token).GetCallerIdentity(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if *got.Arn != c.arn || *got.Account != "111122223333" || !strings.HasPrefix(*got.UserId, c.userPrefix) {
				t.Errorf("%s %s %s", *got.Arn, *got.Account, *got.UserId)
			}
			if c.token != "" && !strings.HasSuffix(*got.UserId, ":i-0123456789abcdef0") {
				t.Errorf("user ID %s does not name the session", *got.UserId)
			}
		})
	}
}

func TestTheSDKIsRefusedWithTheCodesOfSTS(t *testing.T) {
	server := serve(t)
	for _, c := range []struct{ name, key, secret, token, code string }{
		{"unknown key", "AKIANOBODY", "secret", "", "InvalidClientTokenId"},
		{"wrong secret", "AKIAADMIN", "Secret", "", "SignatureDoesNotMatch"},
		{"session without its token", "ASIASESSION", "hush", "", "InvalidClientTokenId"},
		{"expired session", "ASIAOLD", "hush", "token", "ExpiredToken"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := client(server, c.key, c.secret, c.token).GetCallerIdentity(t.Context(), nil)
			var api smithy.APIError
			if !errors.As(err, &api) || api.ErrorCode() != c.code || api.ErrorMessage() == "" {
				t.Errorf("got %v, want %s", err, c.code)
			}
		})
	}
}

func TestATokenForTheClusterIsVerified(t *testing.T) {
	server := serve(t)
	signer := ststoken.Signer{
		Credentials: credentials.NewStaticCredentialsProvider("ASIASESSION", "hush", "token"),
		Region:      "us-west-2", Endpoint: server.URL + "/",
	}
	token, _, err := signer.Token(t.Context(), "demo")
	if err != nil {
		t.Fatal(err)
	}
	verifier := ststoken.Verifier{HTTP: server.Client(), Host: strings.TrimPrefix(server.URL, "https://")}
	got, err := verifier.Verify(t.Context(), token, "demo")
	if err != nil {
		t.Fatal(err)
	}
	if got.ARN != session {
		t.Errorf("identity %+v", got)
	}
	if _, err := verifier.Verify(t.Context(), token, "other"); err == nil {
		t.Error("a token for one cluster passed at another")
	}
}

func TestRefusalsComeAsXMLOrAsJSON(t *testing.T) {
	server := serve(t)
	get := func(accept string) (*http.Response, []byte) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/?Action=GetCallerIdentity&Version=2011-06-15", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Accept", accept)
		response, err := server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response, body
	}
	var f failure
	response, body := get("")
	if err := xml.Unmarshal(body, &f); err != nil || response.StatusCode != http.StatusForbidden || f.Error.Code != "MissingAuthenticationToken" {
		t.Errorf("%s %v: %s", response.Status, err, body)
	}
	response, body = get("application/json")
	f = failure{}
	if err := json.Unmarshal(body, &f); err != nil || response.StatusCode != http.StatusForbidden || f.Error.Code != "MissingAuthenticationToken" || f.RequestID == "" {
		t.Errorf("%s %v: %s", response.Status, err, body)
	}
	if response.Header.Get("Content-Type") != "application/json" {
		t.Errorf("content type %s", response.Header.Get("Content-Type"))
	}
}

func TestOtherOperationsAreRefused(t *testing.T) {
	_, err := client(serve(t), "AKIAADMIN", "secret", "").AssumeRole(t.Context(), &sts.AssumeRoleInput{
		RoleArn: aws.String("arn:aws:iam::111122223333:role/x"), RoleSessionName: aws.String("x"),
	})
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "InvalidAction" {
		t.Errorf("got %v", err)
	}
}
