package ststoken

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
)

const nodeARN = "arn:aws:sts::111122223333:assumed-role/ovenbird-node/i-0abc"

var at = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func clock() time.Time { return at }

type oneKey struct{}

func (oneKey) Lookup(_ context.Context, id string) (sigv4.Credential, error) {
	if id != "ASIAEXAMPLE" {
		return sigv4.Credential{}, sigv4.ErrUnknownKey
	}
	return sigv4.Credential{AccessKeyID: id, SecretAccessKey: "secret", SessionToken: "to/ken+==", ARN: nodeARN}, nil
}

// sts answers GetCallerIdentity as AWS does, and really verifies the signature.
func sts(w http.ResponseWriter, r *http.Request) {
	verifier := sigv4.Verifier{Keys: oneKey{}, Region: "us-west-2", Service: "sts", Now: clock}
	caller, err := verifier.Verify(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	fmt.Fprintf(w, `{"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Account":"111122223333","Arn":%q,"UserId":"AROAX:i-0abc"},"ResponseMetadata":{"RequestId":"1"}}}`, caller.ARN)
}

// fake starts an STS that handler plays and returns its host and a verifier that trusts it.
func fake(t *testing.T, handler http.HandlerFunc) (string, Verifier) {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "https://")
	return host, Verifier{HTTP: server.Client(), Host: host, Now: clock}
}

func signer(host, secret string) Signer {
	return Signer{
		Credentials: credentials.NewStaticCredentialsProvider("ASIAEXAMPLE", secret, "to/ken+=="),
		Region:      "us-west-2", Endpoint: "https://" + host + "/", Now: clock,
	}
}

func token(t *testing.T, s Signer, cluster string) string {
	t.Helper()
	token, _, err := s.Token(t.Context(), cluster)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestATokenProvesItsSignerToItsOwnClusterOnly(t *testing.T) {
	host, verifier := fake(t, sts)
	good := token(t, signer(host, "secret"), "kitchen")

	if id, err := verifier.Check(good); err != nil || id != "ASIAEXAMPLE" {
		t.Errorf("claims the key %q, %v", id, err)
	}
	identity, err := verifier.Verify(t.Context(), good, "kitchen")
	if err != nil {
		t.Fatal(err)
	}
	if want := (Identity{Account: "111122223333", ARN: nodeARN, UserID: "AROAX:i-0abc", AccessKeyID: "ASIAEXAMPLE"}); identity != want {
		t.Errorf("got %+v, want %+v", identity, want)
	}
	if _, err := verifier.Verify(t.Context(), good, "pantry"); !errors.Is(err, ErrInvalid) {
		t.Errorf("another cluster: got %v, want ErrInvalid", err)
	}
	if _, err := verifier.Verify(t.Context(), good, ""); err == nil {
		t.Error("no cluster: accepted")
	}
	if _, err := verifier.Verify(t.Context(), token(t, signer(host, "guess"), "kitchen"), "kitchen"); !errors.Is(err, ErrInvalid) {
		t.Errorf("a forged signature: got %v, want ErrInvalid", err)
	}
}

func TestATokenEndsBeforeItsCredentialsDo(t *testing.T) {
	s := signer("sts.example", "secret")
	if _, expires, _ := s.Token(t.Context(), "kitchen"); !expires.Equal(at.Add(14 * time.Minute)) {
		t.Errorf("expires %s, want 14 minutes after signing", expires)
	}
	s.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "A", SecretAccessKey: "s", CanExpire: true, Expires: at.Add(time.Minute)}, nil
	})
	if _, expires, _ := s.Token(t.Context(), "kitchen"); !expires.Equal(at.Add(time.Minute)) {
		t.Errorf("expires %s, want with the credentials", expires)
	}
}

func TestTheEndpointMustBeAPlainHTTPSHost(t *testing.T) {
	for _, endpoint := range []string{"http://sts.example/", "sts.example", "https://", "https://sts.example/path", "https://sts.example/?a=b"} {
		s := signer("", "secret")
		s.Endpoint = endpoint
		if _, _, err := s.Token(t.Context(), "kitchen"); err == nil || !strings.Contains(err.Error(), endpoint) {
			t.Errorf("%s: got %v, want an error that names it", endpoint, err)
		}
	}
	s := signer("", "secret")
	s.Endpoint = ""
	for region, host := range map[string]string{"us-west-2": "sts.us-west-2.amazonaws.com", "cn-north-1": "sts.cn-north-1.amazonaws.com.cn"} {
		s.Region = region
		if presigned, err := Parse(token(t, s, "kitchen"), host, at); err != nil || presigned.Path != "/" {
			t.Errorf("default endpoint in %s: got %v, %v", region, presigned, err)
		}
	}
}

// decode gives the URL inside a token, encode the token around a URL.
func decode(t *testing.T, token string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, Prefix))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func encode(presigned string) string {
	return Prefix + base64.RawURLEncoding.EncodeToString([]byte(presigned))
}

func TestParseRefusesWhatIsNotAPresignedGetCallerIdentity(t *testing.T) {
	const host = "sts.us-west-2.amazonaws.com"
	good := token(t, signer(host, "secret"), "kitchen")
	replace := func(old, new string) func(string) string {
		return func(u string) string {
			if !strings.Contains(u, old) {
				t.Fatalf("%q is not in %s", old, u)
			}
			return strings.Replace(u, old, new, 1)
		}
	}
	appendix := func(s string) func(string) string { return func(u string) string { return u + s } }
	tests := []struct {
		name   string
		change func(url string) string
		want   string
	}{
		{"plain http", replace("https://", "http://"), "scheme"},
		{"another scheme", replace("https://", "file://"), "scheme"},
		{"another host", replace(host, "sts.evil.example"), "host is not"},
		{"another region's host", replace("us-west-2.amazonaws", "us-east-1.amazonaws"), "host is not"},
		{"the host as a prefix", replace(host, host+".evil.example"), "host is not"},
		{"the host in capitals", replace(host, strings.ToUpper(host)), "host is not"},
		{"a port", replace(host, host+":8443"), "host is not"},
		{"the default port spelt out", replace(host, host+":443"), "host is not"},
		{"the host with a trailing dot", replace(host, host+"."), "host is not"},
		{"the host with an escaped dot", replace(host, strings.Replace(host, ".", "%2e", 1)), "not a URL"},
		{"the host after a backslash", replace("https://"+host, `https://evil.example\\@`+host), "not a URL"},
		{"another partition's host", replace(host, host+".cn"), "host is not"},
		{"an empty port", replace(host, host+":"), "host is not"},
		{"a user", replace(host, "user@"+host), "more than host"},
		{"a host before an at sign", replace(host, host+"@evil.example"), "more than host"},
		{"a fragment", appendix("#x"), "more than host"},
		{"an empty fragment", appendix("#"), "more than host"},
		{"a path", replace("/?", "/x?"), "path"},
		{"no path", replace("/?", "?"), "path"},
		{"two slashes", replace("/?", "//?"), "path"},
		{"a path that leads back", replace("/?", "/x/../?"), "path"},
		{"a path parameter", replace("/?", "/;x?"), "path"},
		{"an escaped path", replace("/?", "/%2e%2e/?"), "path"},
		{"an unknown parameter", appendix("&X-Amz-Foo=1"), "a query parameter that GetCallerIdentity does not"},
		{"a parameter without a value", appendix("&X-Amz-User-Agent="), "exactly once"},
		{"a parameter twice", appendix("&Action=GetCallerIdentity"), "exactly once"},
		{"a parameter again in lower case", appendix("&action=GetSessionToken"), "a query parameter that GetCallerIdentity does not"},
		{"a parameter again, escaped", appendix("&%41ction=GetSessionToken"), "exactly once"},
		{"the date again in other case", appendix("&X-AMZ-Date=20300101T000000Z"), "a query parameter that GetCallerIdentity does not"},
		{"a semicolon", appendix(";x=1"), "does not decode"},
		{"a broken escape", appendix("&X-Amz-User-Agent=%zz"), "does not decode"},
		{"another action", replace("GetCallerIdentity", "GetSessionToken"), "not a GetCallerIdentity"},
		{"another version", replace("2011-06-15", "2012-06-15"), "not a GetCallerIdentity"},
		{"no action", replace("Action=GetCallerIdentity&", ""), "Action is missing"},
		{"no signature", func(u string) string { u, _, _ = strings.Cut(u, "&X-Amz-Signature"); return u }, "X-Amz-Signature is missing"},
		{"no date", replace("X-Amz-Date=20260304T050607Z&", ""), "X-Amz-Date is missing"},
		{"another algorithm", replace("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"), "X-Amz-Algorithm"},
		{"the cluster header not signed", replace("host%3Bx-k8s-aws-id", "host"), "not both signed"},
		{"a header that only resembles it", replace("x-k8s-aws-id", "x-k8s-aws-id2"), "not both signed"},
		{"host not signed", replace("host%3Bx-k8s-aws-id", "x-k8s-aws-id"), "not both signed"},
		{"expiry beyond fifteen minutes", replace("X-Amz-Expires=60", "X-Amz-Expires=901"), "X-Amz-Expires"},
		{"expiry below zero", replace("X-Amz-Expires=60", "X-Amz-Expires=-1"), "X-Amz-Expires"},
		{"expiry in words", replace("X-Amz-Expires=60", "X-Amz-Expires=soon"), "X-Amz-Expires"},
		{"sixteen minutes old", replace("20260304T050607Z", "20260304T045007Z"), "signed 16m0s ago"},
		{"six minutes ahead", replace("20260304T050607Z", "20260304T051207Z"), "in the future"},
		{"a date of another format", replace("20260304T050607Z", "2026-03-04"), "X-Amz-Date"},
		{"a control character", replace("Action", "Act\x00ion"), "not a URL"},
		{"over 4096 bytes", appendix("&X-Amz-User-Agent=" + strings.Repeat("x", 4096)), "4096"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bad := encode(tt.change(decode(t, good)))
			presigned, err := Parse(bad, host, at)
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, %v, want an ErrInvalid with %q", presigned, err, tt.want)
			}
		})
	}
	for name, bad := range map[string]string{
		"empty":             "",
		"no prefix":         strings.TrimPrefix(good, Prefix),
		"another version":   "k8s-aws-v2." + strings.TrimPrefix(good, Prefix),
		"padded":            good + "==",
		"standard alphabet": Prefix + "++//",
		"a line break":      good[:40] + "\n" + good[40:],
		"trailing bits":     Prefix + "aHR",
		"a JSON web token":  "eyJhbGciOiJSUzI1NiJ9.e30.c2ln",
	} {
		if _, err := Parse(bad, host, at); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
}

func TestATokenForTheAPIIsForNoClusterAndNoOtherAPI(t *testing.T) {
	host, verifier := fake(t, sts)
	audience := APIAudience("us-west-2", "111122223333")
	good := token(t, signer(host, "secret"), audience)
	if _, err := verifier.Verify(t.Context(), good, audience); err != nil {
		t.Error(err)
	}
	for _, other := range []string{"ovenbird-api", "kitchen", APIAudience("us-east-1", "111122223333"), APIAudience("us-west-2", "444455556666")} {
		if _, err := verifier.Verify(t.Context(), good, other); !errors.Is(err, ErrInvalid) {
			t.Errorf("for %s: got %v, want ErrInvalid", other, err)
		}
		if _, err := verifier.Verify(t.Context(), token(t, signer(host, "secret"), other), audience); !errors.Is(err, ErrInvalid) {
			t.Errorf("of %s: got %v, want ErrInvalid", other, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	const host = "sts.us-west-2.amazonaws.com"
	good, _, err := signer(host, "secret").Token(f.Context(), "kitchen")
	if err != nil {
		f.Fatal(err)
	}
	decoded, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(good, Prefix))
	if err != nil {
		f.Fatal(err)
	}
	presigned := string(decoded)
	for _, seed := range []string{
		presigned, strings.Replace(presigned, "Action=", "%41ction=", 1), presigned + "&action=GetSessionToken", presigned + "&X-Amz-User-Agent=a+b",
		strings.Replace(presigned, host, "user@"+host+":443", 1), strings.Replace(presigned, "/?", "/..;/?", 1), "https://" + host + "/?", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		parsed, err := Parse(encode(target), host, at)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%q: %v is not ErrInvalid", target, err)
			}
			return
		}
		if parsed.Scheme != "https" || parsed.Host != host || parsed.Path != "/" || parsed.User != nil || parsed.Fragment != "" {
			t.Errorf("%q leads to %s", target, parsed)
		}
		for name, values := range parsed.Query() {
			if _, known := parameters[name]; !known || len(values) != 1 {
				t.Errorf("%q has %s=%q", target, name, values)
			}
		}
		// What is sent on must read as what was checked.
		if again, err := Parse(encode(parsed.String()), host, at); err != nil || again.String() != parsed.String() {
			t.Errorf("%q became %s, which reads as %v, %v", target, parsed, again, err)
		}
	})
}

func TestParseReturnsExactlyWhatWasChecked(t *testing.T) {
	const host = "sts.us-west-2.amazonaws.com"
	odd := strings.Replace(decode(t, token(t, signer(host, "secret"), "kitchen")), "Action=", "%41ction=", 1)
	presigned, err := Parse(encode(odd), host, at)
	if err != nil {
		t.Fatal(err)
	}
	if s := presigned.String(); strings.Contains(s, "%41") || !strings.Contains(s, "Action=GetCallerIdentity") {
		t.Errorf("the URL is not written anew: %s", s)
	}
}

func TestTheVerifierTrustsNothingButAPlainAnswer(t *testing.T) {
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	tests := []struct {
		name    string
		handler http.HandlerFunc
		invalid bool // about the token, not about STS
	}{
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				sts(w, r)
				return
			}
			http.Redirect(w, r, "/elsewhere?"+r.URL.RawQuery, http.StatusFound)
		}, true},
		{"a refusal", answer(403, "<ErrorResponse/>"), true},
		{"throttling", answer(429, ""), false},
		{"a fault", answer(503, ""), false},
		{"no JSON", answer(200, "<GetCallerIdentityResponse/>"), false},
		{"no identity", answer(200, `{"GetCallerIdentityResponse":{"GetCallerIdentityResult":{}}}`), false},
		{"an endless body", answer(200, strings.Repeat(" ", maxAnswer+1)+`{}`), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			host, verifier := fake(t, tt.handler)
			identity, err := verifier.Verify(t.Context(), token(t, signer(host, "secret"), "kitchen"), "kitchen")
			if err == nil || errors.Is(err, ErrInvalid) != tt.invalid || identity != (Identity{}) {
				t.Errorf("got %+v, %v; want an error, ErrInvalid %t", identity, err, tt.invalid)
			}
		})
	}
}

func TestAnErrorNeverShowsTheToken(t *testing.T) {
	host, verifier := fake(t, sts)
	verifier.HTTP = &http.Client{} // does not trust the server's certificate
	_, err := verifier.Verify(t.Context(), token(t, signer(host, "secret"), "kitchen"), "kitchen")
	if !errors.Is(err, ErrUnreachable) || strings.Contains(err.Error(), "Signature") || strings.Contains(err.Error(), "ASIAEXAMPLE") {
		t.Errorf("got %v, want ErrUnreachable without the token", err)
	}
}

func TestAnEndedContextEndsTheCall(t *testing.T) {
	release := make(chan struct{})
	host, verifier := fake(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := verifier.Verify(ctx, token(t, signer(host, "secret"), "kitchen"), "kitchen"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestRoleSession(t *testing.T) {
	tests := []struct{ arn, role, session string }{
		{nodeARN, "arn:aws:iam::111122223333:role/ovenbird-node", "i-0abc"},
		{"arn:aws-cn:sts::1:assumed-role/r/s", "arn:aws-cn:iam::1:role/r", "s"},
		{"arn:aws:iam::111122223333:role/ovenbird-node", "", ""},
		{"arn:aws:sts::111122223333:federated-user/x", "", ""},
		{"arn:aws:sts::111122223333:assumed-role/r", "", ""},
		{"arn:aws:sts::111122223333:assumed-role/r/", "", ""},
		{"arn:aws:sts::111122223333:assumed-role/r/s/t", "", ""},
		{"arn::sts::role/:assumed-role/r/s", "", ""},
		{"", "", ""},
	}
	for _, tt := range tests {
		role, session, ok := RoleSession(tt.arn)
		if role != tt.role || session != tt.session || ok != (tt.role != "") {
			t.Errorf("%s: got %q, %q, %t", tt.arn, role, session, ok)
		}
	}
}

func FuzzRoleSession(f *testing.F) {
	for _, arn := range []string{nodeARN, "arn:aws:iam::111122223333:role/a/b", "arn:aws:sts::1:assumed-role//s", "arn:aws:sts::1:assumed-role/r/s/t", "arn:aws:sts:us-west-2:1:assumed-role/r/s", "arn::sts::role/:assumed-role/e/i", ":::::", ""} {
		f.Add(arn)
	}
	f.Fuzz(func(t *testing.T, arn string) {
		role, session, ok := RoleSession(arn)
		if !ok {
			if role != "" || session != "" {
				t.Errorf("%q is no session and gave %q, %q", arn, role, session)
			}
			return
		}
		// A role and a session can be told back into the ARN: no two callers become one.
		back := strings.Replace(strings.Replace(role, ":iam::", ":sts::", 1), ":role/", ":assumed-role/", 1) + "/" + session
		if back != arn {
			t.Errorf("%q became %q and %q, which are %q", arn, role, session, back)
		}
	})
}

func TestQueryOfTheSignedURLHoldsOnlyKnownParameters(t *testing.T) {
	presigned, err := url.Parse(decode(t, token(t, signer("sts.example", "secret"), "kitchen")))
	if err != nil {
		t.Fatal(err)
	}
	for name := range presigned.Query() {
		if _, known := parameters[name]; !known {
			t.Errorf("%s is not a parameter that the verifier knows", name)
		}
	}
}

func TestTheHostOfSTSIsOfTheRegionsPartition(t *testing.T) {
	for region, want := range map[string]string{
		"us-west-2": "sts.us-west-2.amazonaws.com", "cn-north-1": "sts.cn-north-1.amazonaws.com.cn", "eusc-de-east-1": "sts.eusc-de-east-1.amazonaws.eu",
	} {
		if got := Host(region); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
