package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
)

// maxBody bounds a body that is read here. The largest of any service is a block of a snapshot,
// 512 KiB.
const maxBody = 1 << 20

// buffers are bodies' memory, so that an upload of a thousand blocks does not make a
// thousand of them.
var buffers = sync.Pool{New: func() any { return new([maxBody]byte) }}

func release(body []byte) {
	if cap(body) == maxBody {
		buffers.Put((*[maxBody]byte)(body[:maxBody]))
	}
}

// read completes the call with the request's action and body, and verifies it. The body is
// hashed once, for the signature and for the service.
func (c *Call) read(r *http.Request, p Protocol, verifier sigv4.Verifier) error {
	c.Request, c.Action = r, p.Action(r)
	if s, ok := p.(Streamer); ok {
		hash, err := s.Payload(r)
		if err == nil {
			c.Caller, err = verifier.VerifyHashed(r, hash)
		}
		return err
	}
	buffer := buffers.Get().(*[maxBody]byte) //nolint:forcetypeassert // nothing else is in there
	c.Body = buffer[:0]
	n, err := io.ReadFull(r.Body, buffer[:])
	switch {
	case err == nil:
		return &sigv4.Error{Code: sigv4.CodeTooLarge, Message: fmt.Sprintf("Request body is not smaller than %d bytes", maxBody)}
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && int64(n) == max(r.ContentLength, int64(n)):
	default:
		return &Error{Status: http.StatusBadRequest, Code: "RequestTimeout", Message: "The request's body ended early."}
	}
	c.Body = buffer[:n]
	c.Sum = sha256.Sum256(c.Body)
	hash := hex.EncodeToString(c.Sum[:])
	if r.Header.Get("X-Amz-Content-Sha256") == sigv4.UnsignedPayload && r.TLS != nil && p.UnsignedBody(c.Action) {
		hash = sigv4.UnsignedPayload
	}
	c.Caller, err = verifier.VerifyHashed(r, hash)
	return err
}
