package s3

import (
	"crypto/md5" //nolint:gosec // S3's
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// oddKeys are as hard to send, to sign and to keep as keys get.
var oddKeys = []string{
	"a", "a/b/c.txt", "a b+c%d&e=f?g#h", "é/€/💾", "//double//slash/", "../../etc/passwd", ".", "dir/", "a!'()*~;:@$,[]|\"\\^`{}<>", strings.Repeat("k", maxKey), "tab\tnewline\nbell\a",
}

func TestObjectsOfAnyKeyComeBackAsTheyWerePut(t *testing.T) {
	w := newWorld(t)
	for i, key := range oddKeys {
		w.put(key, fmt.Sprint(i))
	}
	check := func() {
		t.Helper()
		for i, key := range oddKeys {
			if got, err := w.get(key); err != nil || got != fmt.Sprint(i) {
				t.Errorf("%q holds %q, %v", key, got, err)
			}
		}
	}
	check()
	w.open()
	check()
	out, err := w.ListObjectsV2(t.Context(), &sdk.ListObjectsV2Input{Bucket: aws.String("backups"), EncodingType: types.EncodingTypeUrl})
	must(t, err)
	want := slices.Sorted(slices.Values(oddKeys))
	if len(out.Contents) != len(want) {
		t.Fatalf("%d are listed", len(out.Contents))
	}
	for i, o := range out.Contents {
		if *o.Key != asURL(want[i]).XML {
			t.Errorf("%q is listed as %q", want[i], *o.Key)
		}
	}
	for _, key := range oddKeys {
		if _, err := w.DeleteObject(t.Context(), &sdk.DeleteObjectInput{Bucket: aws.String("backups"), Key: &key}); err != nil {
			t.Errorf("delete %q: %v", key, err)
		}
	}
	if err := w.store.Remove("backups"); err != nil {
		t.Error(err)
	}
}

func TestObjectsMayBeEmptyOrLarge(t *testing.T) {
	w := newWorld(t)
	for _, size := range []int{0, 1, 5 << 20} {
		content := strings.Repeat("0123456789abcde\n", size/16+1)[:size]
		w.put("k", content)
		if got, err := w.get("k"); err != nil || got != content {
			t.Errorf("%d bytes came back of %d, %v", len(got), size, err)
		}
	}
}

func TestWhatIsSaidOfAnObjectIsKept(t *testing.T) {
	w := newWorld(t)
	_, err := w.PutObject(t.Context(), &sdk.PutObjectInput{
		Bucket: aws.String("backups"), Key: aws.String("k"), Body: strings.NewReader("content"), Metadata: map[string]string{"cluster": "blue"},
		ContentType: aws.String("text/plain"), ContentEncoding: aws.String("gzip"), CacheControl: aws.String("no-store"), ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
	})
	must(t, err)
	w.open()
	head, err := w.HeadObject(t.Context(), &sdk.HeadObjectInput{Bucket: aws.String("backups"), Key: aws.String("k"), ChecksumMode: types.ChecksumModeEnabled})
	must(t, err)
	sum := md5.Sum([]byte("content")) //nolint:gosec // as above
	switch {
	case head.Metadata["cluster"] != "blue" || *head.ContentType != "text/plain" || *head.ContentEncoding != "gzip" || *head.CacheControl != "no-store":
		t.Errorf("%+v", head)
	case *head.ContentLength != 7 || *head.ETag != fmt.Sprintf("\"%x\"", sum) || head.LastModified == nil || *head.ChecksumSHA256 != "7XACtDnprIRfIjV9giusFERzD722AW0+yUMil7nsn3M=":
		t.Errorf("%+v, %s", head, aws.ToString(head.ChecksumSHA256))
	}
}

func TestEveryChecksumIsHeldTo(t *testing.T) {
	w := newWorld(t)
	for _, a := range types.ChecksumAlgorithm("").Values() {
		if _, known := findAlgorithm(strings.ToLower(string(a))); !known {
			continue
		}
		// Behind the body, over TLS, as the SDK does it by itself.
		_, err := w.PutObject(t.Context(), &sdk.PutObjectInput{Bucket: aws.String("backups"), Key: aws.String("k"), Body: strings.NewReader("123456789"), ChecksumAlgorithm: a})
		must(t, err)
		if got, err := w.get("k"); err != nil || got != "123456789" {
			t.Errorf("%s: %q, %v", a, got, err)
		}
	}
	// The check values of the algorithms, of "123456789" (reveng's catalogue; RFC 3174, FIPS 180-4).
	for name, hexadecimal := range map[string]string{
		"crc32": "cbf43926", "crc32c": "e3069283", "crc64nvme": "ae8b14860a799888", "sha1": "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
		"sha256": "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
	} {
		var raw []byte
		_, _ = fmt.Sscanf(hexadecimal, "%x", &raw)
		sum := base64.StdEncoding.EncodeToString(raw)
		c := call{method: "PUT", target: "/backups/k", body: "123456789", header: map[string]string{"X-Amz-Checksum-" + name: sum}}
		if a := w.send(c); a.StatusCode != http.StatusOK || a.Header.Get("X-Amz-Checksum-"+name) != sum {
			t.Errorf("%s: %s", name, a.Body)
		}
		c.body = "123456780"
		if a := w.send(c); a.Code != "BadDigest" {
			t.Errorf("%s of another body: %s", name, a.Body)
		}
	}
}

func TestAnObjectIsReplacedWholeOrNotAtAll(t *testing.T) {
	w := newWorld(t)
	w.put("k", "before")
	chunks := func(trailer string) string { return "5\r\nafter\r\n0\r\n" + trailer + "\r\n" }
	trailing := func(body string) call {
		return call{method: "PUT", target: "/backups/k", body: body, payload: streamingTrailer, header: map[string]string{
			"Content-Encoding": "aws-chunked", "X-Amz-Decoded-Content-Length": "5", "X-Amz-Trailer": "x-amz-checksum-crc32",
		}}
	}
	with := func(c call, name, value string) call {
		c.header = maps.Clone(c.header)
		if c.header == nil {
			c.header = map[string]string{}
		}
		c.header[name] = value
		return c
	}
	plain := call{method: "PUT", target: "/backups/k", body: "after"}
	unsigned := plain
	unsigned.payload = "UNSIGNED-PAYLOAD"
	tampered := plain
	tampered.payload = strings.Repeat("0", 64)
	signed := plain
	signed.payload = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	nonsense := plain
	nonsense.payload = "NONSENSE"
	for name, tt := range map[string]struct {
		call
		code string
	}{
		"another body than was signed":       {tampered, "XAmzContentSHA256Mismatch"},
		"signed chunks":                      {signed, "NotImplemented"},
		"no payload that S3 knows":           {nonsense, "InvalidArgument"},
		"another MD5":                        {with(plain, "Content-Md5", "1B2M2Y8AsgTpgAmY7PhCfg=="), "BadDigest"},
		"an MD5 that is none":                {with(plain, "Content-Md5", "x"), "InvalidDigest"},
		"a checksum that is none":            {with(plain, "X-Amz-Checksum-Crc32", "x"), "InvalidRequest"},
		"two checksums":                      {with(with(plain, "X-Amz-Checksum-Crc32", "AAAAAA=="), "X-Amz-Checksum-Crc32c", "AAAAAA=="), "InvalidRequest"},
		"a checksum of an unknown algorithm": {with(plain, "X-Amz-Checksum-Xxhash3", "AAAA"), "NotImplemented"},
		"an algorithm and no checksum":       {with(plain, "X-Amz-Sdk-Checksum-Algorithm", "CRC32"), "InvalidRequest"},
		"more than S3 takes in one call":     {with(trailing(chunks("")), "X-Amz-Decoded-Content-Length", fmt.Sprint(maxObject+1)), "EntityTooLarge"},
		"no length":                          {with(trailing(chunks("")), "X-Amz-Decoded-Content-Length", ""), "MissingContentLength"},
		"less than was announced":            {with(trailing(chunks("x-amz-checksum-crc32:AAAAAA==\r\n")), "X-Amz-Decoded-Content-Length", "6"), "IncompleteBody"},
		"more than was announced":            {with(trailing(chunks("x-amz-checksum-crc32:AAAAAA==\r\n")), "X-Amz-Decoded-Content-Length", "4"), "IncompleteBody"},
		"another checksum behind it":         {trailing(chunks("x-amz-checksum-crc32:AAAAAA==\r\n")), "BadDigest"},
		"no checksum behind it":              {trailing(chunks("")), "MalformedTrailerError"},
		"another trailer":                    {trailing(chunks("x-amz-checksum-crc32c:AAAAAA==\r\n")), "MalformedTrailerError"},
		"something behind the trailer":       {trailing(chunks("x-amz-checksum-crc32:AAAAAA==\r\n") + "more"), "MalformedTrailerError"},
		"chunks that are none":               {trailing("after"), "IncompleteBody"},
		"a trailer of something else":        {with(trailing(chunks("")), "X-Amz-Trailer", "expires"), "InvalidRequest"},
		"a trailer of a body without chunks": {with(plain, "X-Amz-Trailer", "x-amz-checksum-crc32"), "InvalidRequest"},
		"too much metadata":                  {with(plain, "X-Amz-Meta-A", strings.Repeat("a", 2048)), "MetadataTooLarge"},
	} {
		if a := w.send(tt.call); a.Code != tt.code {
			t.Errorf("%s: %d %s, want %s", name, a.StatusCode, a.Body, tt.code)
		}
		if got, err := w.get("k"); err != nil || got != "before" {
			t.Errorf("%s: the object is %q, %v", name, got, err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(w.dir, uploads)); err != nil || len(left) != 0 {
		t.Errorf("%v are left of uploads, %v", left, err)
	}
	for name, c := range map[string]call{"signed": plain, "unsigned": unsigned, "in chunks": trailing(chunks("x-amz-checksum-crc32:iUROQQ==\r\n"))} {
		w.put("k", "before")
		a := w.send(c)
		if got, err := w.get("k"); a.StatusCode != http.StatusOK || err != nil || got != "after" {
			t.Errorf("%s: %s, and the object is %q, %v", name, a.Body, got, err)
		}
	}
}

func TestARangeIsAsHTTPHasIt(t *testing.T) {
	w := newWorld(t)
	w.put("k", "0123456789")
	for header, want := range map[string]string{
		"bytes=0-3": "206 0123 bytes 0-3/10", "bytes=7-": "206 789 bytes 7-9/10", "bytes=-2": "206 89 bytes 8-9/10", "bytes=9-99": "206 9 bytes 9-9/10",
		"bytes=-99": "206 0123456789 bytes 0-9/10", "": "200 0123456789 ", "bytes=0-1,3-4": "200 0123456789 ", "bytes=4-2": "200 0123456789 ", "lines=1-2": "200 0123456789 ",
		"bytes=10-": "416 InvalidRange ", "bytes=-0": "416 InvalidRange ",
	} {
		c := call{method: "GET", target: "/backups/k", header: map[string]string{}}
		if header != "" {
			c.header["Range"] = header
		}
		a := w.send(c)
		if a.Code != "" {
			a.Body = a.Code
		}
		if got := fmt.Sprint(a.StatusCode, " ", a.Body, " ", a.Header.Get("Content-Range")); got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
	tag := *w.put("k", "0123456789").ETag
	for name, want := range map[string]int{"If-Match": 200, "If-None-Match": 304} {
		if a := w.send(call{method: "GET", target: "/backups/k", header: map[string]string{name: tag}}); a.StatusCode != want {
			t.Errorf("%s: %d", name, a.StatusCode)
		}
	}
	if a := w.send(call{method: "GET", target: "/backups/k", header: map[string]string{"If-Match": `"x"`}}); a.Code != "PreconditionFailed" {
		t.Errorf("another tag: %s", a.Body)
	}
}

func TestWhatTheLabDoesNotHaveIsRefusedByName(t *testing.T) {
	w := newWorld(t)
	w.put("k", "v")
	_, err := w.CreateMultipartUpload(t.Context(), &sdk.CreateMultipartUploadInput{Bucket: aws.String("backups"), Key: aws.String("k")})
	refused(t, err, "NotImplemented", "uploads")
	_, err = w.CopyObject(t.Context(), &sdk.CopyObjectInput{Bucket: aws.String("backups"), Key: aws.String("l"), CopySource: aws.String("backups/k")})
	refused(t, err, "NotImplemented", "CopyObject")
	_, err = w.ListObjects(t.Context(), &sdk.ListObjectsInput{Bucket: aws.String("backups"), Prefix: aws.String("a")})
	refused(t, err, "NotImplemented", "ListObjectsV2")
	header := func(name, value string) map[string]string { return map[string]string{name: value} }
	for _, tt := range []struct {
		call
		code, message string
	}{
		{call{method: "GET", target: "/backups?acl="}, "NotImplemented", "query parameter acl of GET /{Bucket}"},
		{call{method: "PUT", target: "/backups?versioning="}, "NotImplemented", "versioning"},
		{call{method: "GET", target: "/backups/k?tagging="}, "NotImplemented", "tagging"},
		{call{method: "PUT", target: "/backups/k?partNumber=1&uploadId=u"}, "NotImplemented", "partNumber"},
		{call{method: "DELETE", target: "/backups/k?versionId=v"}, "NotImplemented", "versionId"},
		{call{method: "GET", target: "/backups/k?response-content-type=a"}, "NotImplemented", "response-content-type"},
		{call{method: "GET", target: "/backups?list-type=2&fetch-owner=true"}, "NotImplemented", "fetch-owner"},
		{call{method: "GET", target: "/?max-buckets=3"}, "NotImplemented", "max-buckets"},
		{call{method: "POST", target: "/backups/k"}, "NotImplemented", "POST /{Bucket}/{Key+}"},
		{call{method: "PUT", target: "/backups/k", header: header("X-Amz-Acl", "public-read")}, "NotImplemented", "x-amz-acl"},
		{call{method: "PUT", target: "/backups/k", header: header("X-Amz-Server-Side-Encryption", "aws:kms")}, "NotImplemented", "x-amz-server-side-encryption"},
		{call{method: "PUT", target: "/backups/k", header: header("If-None-Match", "*")}, "NotImplemented", "if-none-match"},
		{call{method: "PUT", target: "/new", header: header("X-Amz-Object-Ownership", "ObjectWriter")}, "NotImplemented", "x-amz-object-ownership"},
		{call{method: "GET", target: "/backups/k", header: header("If-Modified-Since", "now")}, "NotImplemented", "if-modified-since"},
		{call{method: "DELETE", target: "/backups/k", body: "text"}, "NotImplemented", "body of DeleteObject"},
		{call{method: "GET", target: "/backups/k?X-Amz-Signature=0"}, "NotImplemented", "presigned"},
		{call{method: "GET", target: "/backups?list-type=2&prefix=a&prefix=b"}, "InvalidArgument", "more than once"},
		{call{method: "GET", target: "/backups?list-type=2&max-keys=-1"}, "InvalidArgument", "maxKeys"},
		{call{method: "GET", target: "/backups?list-type=2&continuation-token=%21"}, "InvalidArgument", "continuation token"},
		{call{method: "GET", target: "/backups?list-type=2&encoding-type=x"}, "InvalidArgument", "Encoding"},
		{call{method: "GET", target: "/none?list-type=2"}, "NoSuchBucket", "The specified bucket does not exist"},
		{call{method: "GET", target: "/No?list-type=2"}, "InvalidBucketName", "The specified bucket is not valid."},
		{call{method: "GET", target: "/backups/none"}, "NoSuchKey", "The specified key does not exist."},
		{call{method: "PUT", target: "/none/k", body: "v"}, "NoSuchBucket", ""},
		{call{method: "PUT", target: "/backups/" + strings.Repeat("k", maxKey+1)}, "KeyTooLongError", "Your key is too long"},
		{call{method: "PUT", target: "/backups/%FF"}, "InvalidURI", ""},
		{call{method: "DELETE", target: "/backups"}, "BucketNotEmpty", "The bucket you tried to delete is not empty"},
		{call{method: "PUT", target: "/backups", body: constraint("us-west-2")}, "BucketAlreadyOwnedByYou", "you already own it"},
		{call{method: "PUT", target: "/Upper", body: constraint("us-west-2")}, "InvalidBucketName", ""},
		{call{method: "PUT", target: "/192.168.0.1", body: constraint("us-west-2")}, "InvalidBucketName", ""},
		{call{method: "PUT", target: "/a..b", body: constraint("us-west-2")}, "InvalidBucketName", ""},
		{call{method: "PUT", target: "/new"}, "IllegalLocationConstraintException", "unspecified"},
		{call{method: "PUT", target: "/new", body: constraint("eu-central-1")}, "IllegalLocationConstraintException", "eu-central-1"},
		{call{method: "PUT", target: "/new", body: "<x/>"}, "MalformedXML", ""},
		{call{method: "PUT", target: "/new", body: "<CreateBucketConfiguration><Tags/></CreateBucketConfiguration>"}, "NotImplemented", "element Tags"},
		{call{method: "POST", target: "/backups?delete=", body: "<Delete><Object><Key>k</Key></Object></Delete>"}, "InvalidRequest", "Content-MD5"},
		{call{method: "GET", target: "/backups/k", header: header("X-Amz-Expected-Bucket-Owner", "999999999999")}, "AccessDenied", "Access Denied"},
		{call{method: "GET", target: "/backups/k", change: func(r *http.Request) { r.Header.Del("Authorization") }}, "AccessDenied", "Access Denied"},
		{call{method: "GET", target: "/backups/k", change: func(r *http.Request) { r.Header.Del("X-Amz-Content-Sha256") }}, "InvalidRequest", "x-amz-content-sha256"},
		{call{method: "GET", target: "/backups/k", change: func(r *http.Request) { r.URL.Path = "/backups/l" }}, "SignatureDoesNotMatch", ""},
		{call{method: "PUT", target: "/backups/k", body: "v", change: func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD") }}, "SignatureDoesNotMatch", ""},
	} {
		if a := w.send(tt.call); a.Code != tt.code || !strings.Contains(a.Message, tt.message) {
			t.Errorf("%s %s %v: %d %s, want %s with %q", tt.method, tt.target, tt.header, a.StatusCode, a.Body, tt.code, tt.message)
		}
	}
	if got, err := w.get("k"); err != nil || got != "v" {
		t.Errorf("after it all k is %q, %v", got, err)
	}
}

func constraint(region string) string {
	return "<CreateBucketConfiguration><LocationConstraint>" + region + "</LocationConstraint></CreateBucketConfiguration>"
}

func TestABucketIsOfOneRegion(t *testing.T) {
	w := newWorld(t)
	ctx, name := t.Context(), aws.String("other")
	east := w.as("AKIA", "", "us-east-1")
	for range 2 { // in us-east-1 it may be made again
		_, err := east.CreateBucket(ctx, &sdk.CreateBucketInput{Bucket: name})
		must(t, err)
	}
	_, err := w.HeadBucket(ctx, &sdk.HeadBucketInput{Bucket: aws.String("backups")})
	must(t, err)
	a := w.send(call{method: "GET", target: "/other?list-type=2"})
	if a.Code != "AuthorizationHeaderMalformed" || a.Region != "us-east-1" || a.Header.Get("X-Amz-Bucket-Region") != "us-east-1" {
		t.Errorf("%s", a.Body)
	}
	for bucket, want := range map[string]types.BucketLocationConstraint{"backups": "us-west-2", "other": ""} {
		got, err := w.GetBucketLocation(ctx, &sdk.GetBucketLocationInput{Bucket: &bucket})
		if err != nil || got.LocationConstraint != want {
			t.Errorf("%s is in %q, %v", bucket, got.LocationConstraint, err)
		}
	}
	all, err := w.ListBuckets(ctx, nil)
	if err != nil || len(all.Buckets) != 2 || *all.Buckets[0].Name != "backups" || all.Buckets[0].CreationDate == nil {
		t.Errorf("%+v, %v", all, err)
	}
	_, err = east.DeleteBucket(ctx, &sdk.DeleteBucketInput{Bucket: name})
	must(t, err)
	w.open()
	_, err = east.HeadBucket(ctx, &sdk.HeadBucketInput{Bucket: name})
	refused(t, err, "NotFound", "")
}

func TestManyObjectsAreDeletedAtOnce(t *testing.T) {
	w := newWorld(t)
	w.put("a", "1")
	w.put("b&<", "2")
	out, err := w.DeleteObjects(t.Context(), &sdk.DeleteObjectsInput{Bucket: aws.String("backups"), Delete: &types.Delete{
		Objects: []types.ObjectIdentifier{{Key: aws.String("a")}, {Key: aws.String("b&<")}, {Key: aws.String("none")}, {Key: aws.String(strings.Repeat("k", 1025))}},
	}})
	if err != nil || len(out.Deleted) != 3 || *out.Deleted[1].Key != "b&<" || len(out.Errors) != 1 || *out.Errors[0].Code != "KeyTooLongError" {
		t.Errorf("%+v, %v", out, err)
	}
	if err := w.store.Remove("backups"); err != nil {
		t.Error(err)
	}
	must(t, w.store.Make("backups", ""))
	_, err = w.DeleteObjects(t.Context(), &sdk.DeleteObjectsInput{Bucket: aws.String("backups"), Delete: &types.Delete{
		Objects: []types.ObjectIdentifier{{Key: aws.String("a"), VersionId: aws.String("v")}},
	}})
	refused(t, err, "NotImplemented", "VersionId")
}

func TestARoleMayDoWhatItsPoliciesName(t *testing.T) {
	w := newWorld(t)
	w.put("there", "v")
	role, ctx, bucket := w.as("ASIA", "t", "us-west-2"), t.Context(), aws.String("backups")
	get := func(key string) func() error {
		return func() error {
			out, err := role.GetObject(ctx, &sdk.GetObjectInput{Bucket: bucket, Key: &key})
			if err == nil {
				out.Body.Close()
			}
			return err
		}
	}
	for _, tt := range []struct {
		permission string
		call       func() error
	}{
		{"s3:PutObject", func() error {
			_, err := role.PutObject(ctx, &sdk.PutObjectInput{Bucket: bucket, Key: aws.String("k"), Body: strings.NewReader("v")})
			return err
		}},
		{"s3:GetObject", get("there")},
		{"s3:ListBucket", func() error {
			_, err := role.ListObjectsV2(ctx, &sdk.ListObjectsV2Input{Bucket: bucket})
			return err
		}},
		{"s3:DeleteObject", func() error {
			_, err := role.DeleteObject(ctx, &sdk.DeleteObjectInput{Bucket: bucket, Key: aws.String("k")})
			return err
		}},
		{"s3:DeleteBucket", func() error {
			_, err := role.DeleteBucket(ctx, &sdk.DeleteBucketInput{Bucket: bucket})
			return err
		}},
	} {
		w.allowed = nil
		refused(t, tt.call(), "AccessDenied", "is not authorized to perform: "+tt.permission+" on resource: \"arn:aws:s3:::backups")
		if w.allowed = []string{tt.permission}; tt.permission != "s3:DeleteBucket" {
			must(t, tt.call())
		}
	}
	w.allowed = []string{"s3:GetObject"}
	refused(t, get("none")(), "AccessDenied", "s3:ListBucket")
	w.allowed = []string{"s3:GetObject", "s3:ListBucket"}
	refused(t, get("none")(), "NoSuchKey", "")
}

func TestARestartKeepsAllAndRemovesWhatIsHalfMade(t *testing.T) {
	w := newWorld(t)
	w.put("k", "v")
	must(t, w.store.Make("made", "token"))
	for path, content := range map[string]string{filepath.Join(uploads, "1"): "half", filepath.Join("halfmade", "objects", "1"): "x"} {
		path = filepath.Join(w.dir, path)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, []byte(content), 0o600))
	}
	w.open()
	if got, err := w.get("k"); err != nil || got != "v" {
		t.Errorf("k is %q, %v", got, err)
	}
	if err := w.store.Make("made", "token"); err != nil {
		t.Errorf("the same token: %v", err)
	}
	if err := w.store.Make("made", "another"); err == nil {
		t.Error("another token makes it again")
	}
	must(t, filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		must(t, err)
		info, err := d.Info()
		must(t, err)
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("others may read %s", path)
		}
		return nil
	}))
	if entries, err := os.ReadDir(w.dir); err != nil || len(entries) != 3 {
		t.Errorf("there are %v, %v", entries, err)
	}
	must(t, os.Truncate(w.store.file("backups", "k"), 10))
	if err := (&Store{Dir: w.dir}).Open(); err == nil || !strings.Contains(err.Error(), "is no object") {
		t.Errorf("a file that was cut short: %v", err)
	}
}
