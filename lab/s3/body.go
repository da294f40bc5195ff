package s3

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"regexp"
	"strconv"
	"strings"

	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
)

// maxObject is the most that one call may put (API reference, PutObject).
const maxObject = 5 << 30

// maxDocument is the most that a body of XML may have.
const maxDocument = 2 << 20

// maxTrailer bounds what follows a body in chunks: one checksum.
const maxTrailer = 4 << 10

// streamingTrailer stands for a body in chunks with its checksum behind it, none of it signed.
const streamingTrailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

var hexSum = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Payload implements wire.Streamer.
func (Service) Payload(r *http.Request) (string, error) {
	if r.URL.Query().Has("X-Amz-Signature") {
		return "", notImplemented("presigned URLs")
	}
	declared := r.Header.Get("X-Amz-Content-Sha256")
	switch {
	case r.Header.Get("Authorization") == "":
		return sigv4.UnsignedPayload, nil // for the verifier to refuse
	case declared == "":
		return "", invalidRequest("Missing required header for this request: x-amz-content-sha256")
	case hexSum.MatchString(declared):
		return declared, nil
	case declared == sigv4.UnsignedPayload || declared == streamingTrailer:
		if r.TLS == nil {
			return "", invalidRequest("%s is not taken without TLS", declared)
		}
		return declared, nil
	case strings.HasPrefix(declared, "STREAMING-"):
		return "", notImplemented("the payload %s: send %s, or the body's SHA-256", declared, streamingTrailer)
	}
	return "", invalidArgument("x-amz-content-sha256", declared, "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, "+streamingTrailer+
		", STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD, "+
		"STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER or a valid sha256 value.")
}

// body is a request's, on its way in. What copyTo has passed on is what the request's headers
// and trailer say it is, or copyTo fails.
type body struct {
	size    int64 // as the request promises
	raw     *bufio.Reader
	chunked bool
	claim   claim
	claimed bool
	sha256  string // hexadecimal; empty: not signed
	md5     string // base64; empty: not given
}

// sums are what a body was found to be.
type sums struct {
	md5      string // hexadecimal
	checksum checksum
}

func newBody(r *http.Request) (*body, error) {
	payload := r.Header.Get("X-Amz-Content-Sha256")
	b := &body{size: r.ContentLength, raw: bufio.NewReader(r.Body), chunked: payload == streamingTrailer, md5: r.Header.Get("Content-Md5")}
	if hexSum.MatchString(payload) {
		b.sha256 = payload
	}
	if b.chunked {
		n, err := strconv.ParseInt(r.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64)
		if err != nil {
			n = -1
		}
		b.size = n
	}
	switch {
	case b.size < 0:
		return nil, errMissingLength
	case b.size > maxObject:
		return nil, tooLarge(b.size)
	case b.md5 != "" && !validSum(b.md5, newMD5().Size()):
		return nil, badRequest("InvalidDigest", "The Content-MD5 you specified was invalid.", detail{"Content-MD5", b.md5})
	}
	var err error
	b.claim, b.claimed, err = claimed(r.Header)
	return b, err
}

// source remembers that it was reading that failed, and not writing.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

func (b *body) copyTo(w io.Writer) (sums, error) {
	algorithm := algorithms[0]
	if b.claimed {
		algorithm = b.claim.algorithm
	}
	signed, tag, sum := sha256.New(), newMD5(), algorithm.new()
	all := []io.Writer{w, tag, sum}
	if b.sha256 != "" {
		all = append(all, signed)
	}
	in := &source{Reader: b.raw}
	if b.chunked {
		in.Reader = httputil.NewChunkedReader(b.raw)
	}
	n, err := io.Copy(io.MultiWriter(all...), io.LimitReader(in, b.size+1))
	switch {
	case in.err != nil || err == nil && n != b.size:
		return sums{}, errIncomplete
	case err != nil:
		return sums{}, err
	}
	if b.chunked {
		if err := b.readTrailer(); err != nil {
			return sums{}, err
		}
	}
	found := sums{hex.EncodeToString(tag.Sum(nil)), checksum{algorithm.name, encodeSum(sum)}}
	return found, b.compare(signed, tag, found.checksum)
}

// readTrailer takes the checksum from behind the last chunk, which must be the body's end.
func (b *body) readTrailer() error {
	text, err := io.ReadAll(io.LimitReader(b.raw, maxTrailer))
	if err != nil {
		return errIncomplete
	}
	lines := bufio.NewReader(bytes.NewReader(text))
	header, err := textproto.NewReader(lines).ReadMIMEHeader()
	if err != nil || lines.Buffered() > 0 || len(text) == maxTrailer {
		return errTrailer
	}
	want := 0
	if b.claim.trailer {
		want = 1
		b.claim.value = header.Get(checksumPrefix + b.claim.name)
		if !validSum(b.claim.value, b.claim.size) {
			return errTrailer
		}
	}
	if len(header) != want {
		return errTrailer
	}
	return nil
}

func (b *body) compare(signed, tag hash.Hash, found checksum) error {
	switch {
	case b.sha256 != "" && b.sha256 != hex.EncodeToString(signed.Sum(nil)):
		return badRequest("XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed.",
			detail{"ClientComputedContentSHA256", b.sha256}, detail{"S3ComputedContentSHA256", hex.EncodeToString(signed.Sum(nil))})
	case b.md5 != "" && b.md5 != encodeSum(tag):
		return badRequest("BadDigest", "The Content-MD5 you specified did not match what we received.",
			detail{"ExpectedDigest", b.md5}, detail{"CalculatedDigest", encodeSum(tag)})
	case b.claimed && b.claim.value != found.Value:
		return badRequest("BadDigest", "The "+strings.ToUpper(found.Algorithm)+" you specified did not match the calculated checksum.")
	}
	return nil
}

// document reads a body of XML, or one that is empty.
func document(r *http.Request) ([]byte, *body, error) {
	b, err := newBody(r)
	if err != nil {
		return nil, nil, err
	}
	if b.size > maxDocument {
		return nil, nil, badRequest("MaxMessageLengthExceeded", "Your request was too big.", detail{"MaxMessageLengthBytes", strconv.Itoa(maxDocument)})
	}
	var text bytes.Buffer
	_, err = b.copyTo(&text)
	return text.Bytes(), b, err
}
