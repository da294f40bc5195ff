package s3

import (
	"crypto/md5"  //nolint:gosec // S3's ETag and Content-MD5
	"crypto/sha1" //nolint:gosec // a checksum that S3 takes
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"net/http"
	"strings"
)

// algorithm is a checksum that S3 keeps with an object. Its header is x-amz-checksum-NAME.
type algorithm struct {
	name string
	new  func() hash.Hash
	size int // bytes
}

// checksumPrefix begins the headers of checksums.
const checksumPrefix = "x-amz-checksum-"

// crc64Table is of the polynomial of NVM Express, reflected.
var crc64Table = crc64.MakeTable(0x9a6c9329ac4bc9b5)

// algorithms are those of the API reference, the first what S3 computes when a request has none.
var algorithms = []algorithm{
	{"crc64nvme", func() hash.Hash { return crc64.New(crc64Table) }, crc64.Size},
	{"crc32", func() hash.Hash { return crc32.NewIEEE() }, crc32.Size},
	{"crc32c", func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }, crc32.Size},
	{"sha1", sha1.New, sha1.Size},
	{"sha256", sha256.New, sha256.Size},
}

func findAlgorithm(name string) (algorithm, bool) {
	for _, a := range algorithms {
		if a.name == name {
			return a, true
		}
	}
	return algorithm{}, false
}

// checksum is a value of an algorithm, in base64.
type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"value"`
}

func (c checksum) header() string { return checksumPrefix + c.Algorithm }

// claim is what a request says the checksum of its body is. The value is empty where it follows
// the body.
type claim struct {
	algorithm
	value   string
	trailer bool
}

// claimed reads the checksum that a request's headers name; ok is false when they name none.
func claimed(header http.Header) (c claim, ok bool, err error) {
	n := 0
	for _, a := range algorithms {
		if values := header.Values(checksumPrefix + a.name); len(values) > 0 {
			c, n = claim{algorithm: a, value: values[0]}, n+len(values)
		}
	}
	trailers := header.Values("X-Amz-Trailer")
	for _, name := range trailers {
		name, isChecksum := strings.CutPrefix(strings.ToLower(strings.TrimSpace(name)), checksumPrefix)
		a, known := findAlgorithm(name)
		if !isChecksum || !known {
			return c, false, invalidRequest("The value specified in the x-amz-trailer header is not supported")
		}
		c, n = claim{algorithm: a, trailer: true}, n+1
	}
	named := header.Get("X-Amz-Sdk-Checksum-Algorithm")
	switch {
	case n > 1:
		return c, false, invalidRequest("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
	case len(trailers) > 0 && header.Get("X-Amz-Content-Sha256") != streamingTrailer:
		return c, false, invalidRequest("x-amz-trailer is given, but the payload is not " + streamingTrailer)
	case named != "" && n == 0:
		return c, false, invalidRequest("x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.")
	case named != "" && !strings.EqualFold(named, c.name):
		return c, false, invalidRequest("Value for x-amz-sdk-checksum-algorithm header is invalid.")
	case n == 1 && !c.trailer && !validSum(c.value, c.size):
		return c, false, invalidRequest("Value for %s%s header is invalid.", checksumPrefix, c.name)
	}
	return c, n == 1, nil
}

func validSum(text string, size int) bool {
	sum, err := base64.StdEncoding.DecodeString(text)
	return err == nil && len(sum) == size
}

func encodeSum(h hash.Hash) string { return base64.StdEncoding.EncodeToString(h.Sum(nil)) }

func newMD5() hash.Hash { return md5.New() } //nolint:gosec // as above
