package sigv4

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

var (
	now       = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	permanent = Credential{AccessKeyID: "AKIAEXAMPLE", SecretAccessKey: "secret", ARN: "arn:aws:iam::111122223333:user/admin"}
	temporary = Credential{
		AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: "other", SessionToken: "tok/en+with=odd&signs",
		ARN: "arn:aws:sts::111122223333:assumed-role/node/i-0abc", Expires: now.Add(time.Hour),
	}
)

type keys map[string]Credential

func (k keys) Lookup(_ context.Context, id string) (Credential, error) {
	if id == "AKIABROKEN" {
		return Credential{}, errors.New("the store is away")
	}
	credential, ok := k[id]
	if !ok {
		return Credential{}, ErrUnknownKey
	}
	return credential, nil
}

func verifier() Verifier {
	return Verifier{
		Keys:   keys{permanent.AccessKeyID: permanent, temporary.AccessKeyID: temporary},
		Region: "us-west-2", Service: "eks", Now: func() time.Time { return now }, MaxBody: 1024,
	}
}

// signing says how a test signs a request; the zero value signs as permanent, now, for EKS.
type signing struct {
	credential      Credential
	region, service string
	at              time.Time
	presign         bool
}

func request(method, target, body string) *http.Request {
	r, err := http.NewRequest(method, "https://eks.lab.internal"+target, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	if body == "" {
		r.Body, r.ContentLength = http.NoBody, 0
	} else {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

// sign signs r with the SDK and returns it as a server receives it.
func (s signing) sign(t *testing.T, r *http.Request) *http.Request {
	t.Helper()
	credential := s.credential
	if credential.AccessKeyID == "" {
		credential = permanent
	}
	if s.region == "" {
		s.region = "us-west-2"
	}
	if s.service == "" {
		s.service = "eks"
	}
	if s.at.IsZero() {
		s.at = now
	}
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	creds := aws.Credentials{AccessKeyID: credential.AccessKeyID, SecretAccessKey: credential.SecretAccessKey, SessionToken: credential.SessionToken}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = s.service == "s3" })
	var target string
	var header http.Header
	if s.presign {
		var err error
		target, header, err = signer.PresignHTTP(t.Context(), creds, r, hash, s.service, s.region, s.at)
		if err != nil {
			t.Fatal(err)
		}
	} else {
		if err := signer.SignHTTP(t.Context(), creds, r, hash, s.service, s.region, s.at); err != nil {
			t.Fatal(err)
		}
		target, header = r.URL.String(), r.Header
	}
	received := httptest.NewRequest(r.Method, strings.TrimPrefix(target, "https://eks.lab.internal"), bytes.NewReader(body))
	received.Host = "eks.lab.internal"
	received.Header = header.Clone()
	received.Header.Del("Host")
	received.Header.Del("Content-Length") // the server moves it into ContentLength
	received.Header.Set("User-Agent", "added-by-the-transport")
	return received
}

func TestASignatureByTheSDKIsAccepted(t *testing.T) {
	tests := []struct {
		name string
		signing
		method, target, body string
	}{
		{name: "list without a body", method: "GET", target: "/clusters?maxResults=1&nextToken=a%2Fb%3D"},
		{name: "create with a body", method: "POST", target: "/clusters", body: `{"name":"x"}`},
		{name: "temporary credentials", signing: signing{credential: temporary}, method: "POST", target: "/clusters", body: `{}`},
		{name: "an escaped slash in the path", method: "GET", target: "/clusters/x/access-entries/arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fy"},
		{name: "a repeated parameter", method: "DELETE", target: "/tags/a?tagKeys=b&tagKeys=a"},
		{name: "spaces and pluses in the query", method: "GET", target: "/clusters?include=a%20b%2Bc"},
		{name: "presigned", signing: signing{presign: true}, method: "GET", target: "/clusters?X-Amz-Expires=60"},
		{name: "presigned with temporary credentials", signing: signing{presign: true, credential: temporary}, method: "GET", target: "/"},
		{name: "almost five minutes old", signing: signing{at: now.Add(-299 * time.Second)}, method: "GET", target: "/"},
		{name: "almost five minutes ahead", signing: signing{at: now.Add(299 * time.Second)}, method: "GET", target: "/"},
		{name: "presigned fourteen minutes ago for one", signing: signing{presign: true, at: now.Add(-14 * time.Minute)}, method: "GET", target: "/?X-Amz-Expires=60"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := tt.sign(t, request(tt.method, tt.target, tt.body))
			credential, err := verifier().Verify(r)
			if err != nil {
				t.Fatal(err)
			}
			want := tt.credential.ARN
			if want == "" {
				want = permanent.ARN
			}
			if credential.ARN != want {
				t.Errorf("caller is %s, want %s", credential.ARN, want)
			}
			if body, _ := io.ReadAll(r.Body); string(body) != tt.body {
				t.Errorf("body after Verify is %q, want %q", body, tt.body)
			}
		})
	}
}

func TestThePathsOfS3AreEscapedOnce(t *testing.T) {
	v := verifier()
	v.Service = "s3"
	for _, target := range []string{
		"/bucket", "/bucket/plain", "/bucket/a%20b%2Bc%25", "/bucket/%E2%82%AC", "/bucket//a/../b/", "/bucket/a%2Fb?x-id=GetObject", "/bucket/a%21%27%28%29%2A",
	} {
		r := signing{service: "s3"}.sign(t, request("GET", target, ""))
		if _, err := v.Verify(r); err != nil {
			t.Errorf("%s: %v", target, err)
		}
		r.URL.Path, r.URL.RawPath = r.URL.Path+"x", ""
		if _, err := v.Verify(r); err == nil {
			t.Errorf("%s: another path is accepted", target)
		}
	}
}

func TestAnythingElseIsRefused(t *testing.T) {
	const create = `{"name":"x"}`
	forged := permanent
	forged.SecretAccessKey = "guess"
	wrongToken, noToken, needlessToken := temporary, temporary, permanent
	wrongToken.SessionToken, noToken.SessionToken, needlessToken.SessionToken = "another", "", "token"
	expired := Credential{AccessKeyID: "ASIAOLD", SecretAccessKey: "s", SessionToken: "t", Expires: now}
	setHeader := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	inAuthorization := func(old, new string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, new, 1))
		}
	}
	setBody := func(s string) func(*http.Request) {
		return func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(s)) }
	}
	inQuery := func(old, new string) func(*http.Request) {
		return func(r *http.Request) { r.URL.RawQuery = strings.Replace(r.URL.RawQuery, old, new, 1) }
	}
	presigned := signing{presign: true}
	tests := []struct {
		name string
		signing
		target string
		before func(*http.Request) // before signing
		after  func(*http.Request) // on the way
		code   string
	}{
		{name: "unsigned", after: func(r *http.Request) { r.Header.Del("Authorization") }, code: CodeMissingToken},
		{name: "an empty Authorization header", after: setHeader("Authorization", ""), code: CodeIncomplete},
		{name: "a bearer token", after: setHeader("Authorization", "Bearer x"), code: CodeIncomplete},
		{name: "two Authorization headers", after: func(r *http.Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }, code: CodeIncomplete},
		{name: "Signature twice", after: func(r *http.Request) {
			r.Header.Set("Authorization", r.Header.Get("Authorization")+", Signature="+strings.Repeat("0", 64))
		}, code: CodeIncomplete},
		{name: "header and query at once", after: func(r *http.Request) { r.URL.RawQuery = "X-Amz-Algorithm=AWS4-HMAC-SHA256" }, code: CodeIncomplete},
		{name: "no date", after: func(r *http.Request) { r.Header.Del("X-Amz-Date") }, code: CodeIncomplete},
		{name: "a date of another format", after: setHeader("X-Amz-Date", "2026-03-04T05:06:07Z"), code: CodeIncomplete},
		{name: "a credential without scope", after: inAuthorization("/20260304/us-west-2/eks/aws4_request", ""), code: CodeIncomplete},
		{name: "unsorted signed headers", after: inAuthorization("SignedHeaders=content-length;", "SignedHeaders=z;content-length;"), code: CodeIncomplete},
		{name: "signed headers in capitals", after: inAuthorization("SignedHeaders=content-length;", "SignedHeaders=Content-Length;"), code: CodeIncomplete},
		{name: "a signature cut short", after: func(r *http.Request) {
			a := r.Header.Get("Authorization")
			r.Header.Set("Authorization", a[:len(a)-1])
		}, code: CodeIncomplete},
		{name: "a query that does not decode", after: func(r *http.Request) { r.URL.RawQuery = "a=%zz" }, code: CodeIncomplete},
		{name: "a query with a semicolon", after: func(r *http.Request) { r.URL.RawQuery = "a=1;b=2" }, code: CodeIncomplete},

		{name: "another secret", signing: signing{credential: forged}, code: CodeMismatch},
		{name: "a signature of zeros", after: func(r *http.Request) {
			a, _, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
			r.Header.Set("Authorization", a+"Signature="+strings.Repeat("0", 64))
		}, code: CodeMismatch},
		{name: "another region", signing: signing{region: "us-east-1"}, code: CodeMismatch},
		{name: "another service", signing: signing{service: "sts"}, code: CodeMismatch},
		{name: "another terminator", after: inAuthorization("aws4_request", "aws5_request"), code: CodeMismatch},
		{name: "a scope of another day", after: inAuthorization("/20260304/", "/20260303/"), code: CodeMismatch},
		{name: "a scope and key changed together", after: inAuthorization("AKIAEXAMPLE", "ASIAEXAMPLE"), code: CodeUnknownKey},
		{name: "another method", after: func(r *http.Request) { r.Method = "PUT" }, code: CodeMismatch},
		{name: "another path", after: func(r *http.Request) { r.URL.Path = "/clusters/y" }, code: CodeMismatch},
		{name: "an unescaped slash in the path", target: "/clusters/a%2Fb", after: func(r *http.Request) { r.URL.RawPath = "" }, code: CodeMismatch},
		{name: "another query", target: "/clusters?a=1", after: inQuery("a=1", "a=2"), code: CodeMismatch},
		{name: "a parameter twice", target: "/clusters?a=1", after: inQuery("a=1", "a=1&a=1"), code: CodeMismatch},
		{name: "a parameter in another case", target: "/clusters?maxResults=1", after: inQuery("maxResults", "MaxResults"), code: CodeMismatch},
		{name: "a path that leads back", after: func(r *http.Request) { r.URL.Path = "/clusters/../clusters" }, code: CodeMismatch},
		{name: "two slashes in the path", after: func(r *http.Request) { r.URL.Path = "//clusters" }, code: CodeMismatch},
		{name: "one more parameter", after: func(r *http.Request) { r.URL.RawQuery = "a=1" }, code: CodeMismatch},
		{name: "another host", after: func(r *http.Request) { r.Host = "evil.example" }, code: CodeMismatch},
		{name: "another body", after: setBody(`{"name":"y"}`), code: CodeMismatch},
		{name: "no body", after: setBody(""), code: CodeMismatch},
		{name: "a body over the bound", after: setBody(strings.Repeat("x", 1025)), code: CodeTooLarge},
		{name: "a changed signed header", after: setHeader("Content-Type", "text/plain"), code: CodeMismatch},
		{name: "a removed signed header", after: func(r *http.Request) { r.Header.Del("Content-Type") }, code: CodeMismatch},
		{name: "a second value of a signed header", after: func(r *http.Request) { r.Header.Add("Content-Type", "text/plain") }, code: CodeMismatch},
		{name: "an x-amz header that is not signed", after: setHeader("X-Amz-Target", "x"), code: CodeMismatch},
		{name: "a date moved within the window", after: setHeader("X-Amz-Date", now.Add(time.Second).Format(dateFormat)), code: CodeMismatch},
		{name: "a declared payload hash that is not the body's", before: setHeader("X-Amz-Content-Sha256", strings.Repeat("0", 64)), code: CodeMismatch},
		{name: "an unsigned payload", before: setHeader("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"), code: CodeMismatch},
		{name: "host not signed", after: inAuthorization("host;", ""), code: CodeMismatch},
		{name: "user-agent signed", after: inAuthorization("host;", "host;user-agent;"), code: CodeMismatch},

		{name: "an unknown key", signing: signing{credential: Credential{AccessKeyID: "AKIANOBODY", SecretAccessKey: "s"}}, code: CodeUnknownKey},
		{name: "another session token", signing: signing{credential: wrongToken}, code: CodeUnknownKey},
		{name: "no session token", signing: signing{credential: noToken}, code: CodeUnknownKey},
		{name: "a session token where none belongs", signing: signing{credential: needlessToken}, code: CodeUnknownKey},
		{name: "a session token removed on the way", signing: signing{credential: temporary}, after: func(r *http.Request) { r.Header.Del("X-Amz-Security-Token") }, code: CodeUnknownKey},
		{name: "a session token that is not signed", signing: signing{credential: temporary}, after: inAuthorization(";x-amz-security-token", ""), code: CodeMismatch},
		{name: "a date that is not signed", after: inAuthorization(";x-amz-date", ""), code: CodeMismatch},
		{name: "two session tokens", signing: signing{credential: temporary}, after: func(r *http.Request) { r.Header.Add("X-Amz-Security-Token", "x") }, code: CodeIncomplete},
		{name: "expired credentials", signing: signing{credential: expired}, code: CodeExpiredToken},
		{name: "more than five minutes old", signing: signing{at: now.Add(-301 * time.Second)}, code: CodeExpired},
		{name: "more than five minutes ahead", signing: signing{at: now.Add(301 * time.Second)}, code: CodeExpired},

		{name: "presigned sixteen minutes ago", signing: signing{presign: true, at: now.Add(-16 * time.Minute)}, target: "/?X-Amz-Expires=86400", code: CodeExpired},
		{name: "presigned for the future", signing: signing{presign: true, at: now.Add(6 * time.Minute)}, code: CodeExpired},
		{name: "presigned, another path", signing: presigned, after: func(r *http.Request) { r.URL.Path = "/x" }, code: CodeMismatch},
		{name: "presigned, another parameter", signing: presigned, target: "/?Action=A", after: inQuery("Action=A", "Action=B"), code: CodeMismatch},
		{name: "presigned, one more parameter", signing: presigned, after: inQuery("X-Amz-Date", "Action=B&X-Amz-Date"), code: CodeMismatch},
		{name: "presigned, the date twice", signing: presigned, after: inQuery("X-Amz-Date", "X-Amz-Date=20260304T050608Z&X-Amz-Date"), code: CodeIncomplete},
		{name: "presigned, the signature twice", signing: presigned, after: inQuery("X-Amz-Signature", "X-Amz-Signature=00&X-Amz-Signature"), code: CodeIncomplete},
		{name: "presigned, the date again in lower case", signing: presigned, after: inQuery("X-Amz-Date", "x-amz-date=20260304T050608Z&X-Amz-Date"), code: CodeMismatch},
		{name: "presigned, no algorithm", signing: presigned, after: inQuery("X-Amz-Algorithm", "X-Algorithm"), code: CodeIncomplete},
		{name: "presigned for longer than a week", signing: presigned, target: "/?X-Amz-Expires=604801", code: CodeIncomplete},
		{name: "presigned, a signed header removed", signing: presigned, before: setHeader("X-K8s-Aws-Id", "x"), after: func(r *http.Request) { r.Header.Del("X-K8s-Aws-Id") }, code: CodeMismatch},
		{name: "presigned, a signed header changed", signing: presigned, before: setHeader("X-K8s-Aws-Id", "x"), after: setHeader("X-K8s-Aws-Id", "y"), code: CodeMismatch},
		{name: "presigned with temporary credentials, token changed", signing: signing{presign: true, credential: temporary}, after: inQuery("X-Amz-Security-Token=tok", "X-Amz-Security-Token=tak"), code: CodeUnknownKey},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := verifier()
			v.Keys.(keys)["ASIAOLD"] = expired
			target, body := tt.target, create
			if target == "" {
				target = "/clusters"
			}
			if tt.presign {
				body = ""
			}
			r := request("POST", target, body)
			if tt.before != nil {
				tt.before(r)
			}
			r = tt.sign(t, r)
			if tt.after != nil {
				tt.after(r)
			}
			credential, err := v.Verify(r)
			var refusal *Error
			if !errors.As(err, &refusal) || refusal.Code != tt.code {
				t.Errorf("got %v, want %s", err, tt.code)
			}
			if credential != (Credential{}) {
				t.Error("a refused request still got a credential")
			}
		})
	}
}

func TestAStoreThatFailsIsNotARefusal(t *testing.T) {
	r := signing{credential: Credential{AccessKeyID: "AKIABROKEN", SecretAccessKey: "s"}}.sign(t, request("GET", "/", ""))
	_, err := verifier().Verify(r)
	var refusal *Error
	if err == nil || errors.As(err, &refusal) {
		t.Errorf("got %v, want an error that is not a refusal", err)
	}
}

func TestARealServerReceivesWhatTheSDKSigned(t *testing.T) {
	var verdict error
	v := verifier()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, verdict = v.Verify(r) }))
	defer server.Close()
	r, err := http.NewRequest(http.MethodPost, server.URL+"/clusters/a%2Fb?x=1&x=2", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("{}"))
	creds := aws.Credentials{AccessKeyID: temporary.AccessKeyID, SecretAccessKey: temporary.SecretAccessKey, SessionToken: temporary.SessionToken}
	if err := v4.NewSigner().SignHTTP(t.Context(), creds, r, hex.EncodeToString(sum[:]), "eks", "us-west-2", now); err != nil {
		t.Fatal(err)
	}
	response, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if verdict != nil {
		t.Error(verdict)
	}
}

func TestABodyThatTheServiceHashesItselfIsVerifiedByThatHash(t *testing.T) {
	const body = "a block"
	sum := sha256.Sum256([]byte(body))
	signed := hex.EncodeToString(sum[:])
	for _, tt := range []struct {
		name, declared, hash string
		ok                   bool
	}{
		{"signed", signed, signed, true},
		{"signed, not declared", "", signed, true},
		{"another body", signed, strings.Repeat("0", 64), false},
		{"unsigned where the service allows it", UnsignedPayload, UnsignedPayload, true},
		{"unsigned where it does not", UnsignedPayload, signed, false},
		{"signed, taken for unsigned", signed, UnsignedPayload, false},
	} {
		r := request("PUT", "/snapshots/snap-1/blocks/0", body)
		hash := signed
		if tt.declared != "" {
			r.Header.Set("X-Amz-Content-Sha256", tt.declared)
			hash = tt.declared
		}
		creds := aws.Credentials{AccessKeyID: permanent.AccessKeyID, SecretAccessKey: permanent.SecretAccessKey}
		if err := v4.NewSigner().SignHTTP(t.Context(), creds, r, hash, "eks", "us-west-2", now); err != nil {
			t.Fatal(err)
		}
		r.Body = io.NopCloser(strings.NewReader("unread"))
		_, err := verifier().VerifyHashed(r, tt.hash)
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
		if left, _ := io.ReadAll(r.Body); string(left) != "unread" {
			t.Errorf("%s: the body was read", tt.name)
		}
	}
}

// FuzzVerify holds that nothing which is not signed with a secret is accepted or makes the
// verifier panic, whatever the signature claims.
func FuzzVerify(f *testing.F) {
	const scope = "AKIAEXAMPLE/20260304/us-west-2/eks/aws4_request"
	signature := strings.Repeat("0", 64)
	f.Add("AWS4-HMAC-SHA256 Credential="+scope+", SignedHeaders=content-length;host;x-amz-date, Signature="+signature, "20260304T050607Z", "/clusters", "a=1&a=2")
	f.Add("AWS4-HMAC-SHA256 Credential="+scope+",SignedHeaders=host;x-amz-date,Signature="+signature, "20260304T050607Z", "/clusters/a%2Fb", "")
	f.Add("", "", "/", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential="+scope+"&X-Amz-Date=20260304T050607Z&X-Amz-SignedHeaders=host&X-Amz-Expires=60&X-Amz-Signature="+signature)
	f.Add("Bearer x", "now", "//", "%zz;")
	f.Fuzz(func(t *testing.T, authorization, date, path, query string) {
		target, err := url.ParseRequestURI(path)
		if err != nil || target.RawQuery != "" {
			return // no server would get this far
		}
		target.RawQuery = query
		r := &http.Request{Method: http.MethodGet, URL: target, Host: "eks.lab.internal", Header: http.Header{}}
		for name, value := range map[string]string{"Authorization": authorization, "X-Amz-Date": date} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		_, err = verifier().Verify(r.WithContext(t.Context()))
		var refusal *Error
		if err == nil || !errors.As(err, &refusal) {
			t.Errorf("got %v, want a refusal", err)
		}
	})
}
