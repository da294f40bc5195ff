package s3

import (
	"encoding/xml"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// metaPrefix begins the headers of an object's own metadata.
const metaPrefix = "x-amz-meta-"

// maxMeta is the most that names and values of metadata may have, in bytes.
const maxMeta = 2 << 10

// maxDeleted is the most objects that one call deletes.
const maxDeleted = 1000

// kept are the headers of a put that a get answers, besides those of metadata.
var kept = []string{"Content-Type", "Content-Encoding", "Content-Language", "Content-Disposition", "Cache-Control", "Expires"}

// described reads what a put says of its object besides the content.
func described(header http.Header) (map[string]string, error) {
	headers, meta := map[string]string{"Content-Type": "binary/octet-stream"}, 0
	for name, values := range header {
		value := strings.Join(values, ",")
		own, isMeta := strings.CutPrefix(strings.ToLower(name), metaPrefix)
		if name == "Content-Encoding" {
			value = withoutChunks(value)
		}
		switch {
		case isMeta:
			meta += len(own) + len(value)
		case value == "" || !slices.Contains(kept, name):
			continue
		}
		if !utf8.ValidString(value) {
			return nil, invalidArgument(name, "", "The header "+name+" is not UTF-8.")
		}
		headers[name] = value
	}
	if meta > maxMeta {
		return nil, badRequest("MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size",
			detail{"Size", strconv.Itoa(meta)}, detail{"MaxSizeAllowed", strconv.Itoa(maxMeta)})
	}
	return headers, nil
}

// withoutChunks is a content encoding without aws-chunked, which is of the transfer only.
func withoutChunks(encoding string) string {
	var rest []string
	for part := range strings.SplitSeq(encoding, ",") {
		if part = strings.TrimSpace(part); part != "" && part != "aws-chunked" {
			rest = append(rest, part)
		}
	}
	return strings.Join(rest, ",")
}

func (s Service) putObject(q request) (any, error) {
	b, err := newBody(q.Request)
	if err != nil {
		return nil, err
	}
	headers, err := described(q.Request.Header)
	if err != nil {
		return nil, err
	}
	o, err := s.Buckets.put(q.bucket, func(w io.Writer) (object, error) {
		found, err := b.copyTo(w)
		return object{Key: q.key, Size: b.size, ETag: found.md5, Checksum: found.checksum, Headers: headers}, err
	})
	if err != nil {
		return nil, err
	}
	return answer{header: o.identity(true)}, nil
}

// identity is the headers by which an object's content is known.
func (o object) identity(withChecksum bool) http.Header {
	header := http.Header{}
	header.Set("ETag", o.quoted())
	if withChecksum {
		header.Set(o.Checksum.header(), o.Checksum.Value)
		header.Set("X-Amz-Checksum-Type", "FULL_OBJECT")
	}
	return header
}

func (o object) quoted() string { return `"` + o.ETag + `"` }

// getObject is HeadObject too, whose answer has no body.
func (s Service) getObject(q request) (any, error) {
	o, file, err := s.Buckets.open(q.bucket, q.key)
	if err != nil {
		// Who may not list a bucket is not told what is missing in it.
		if hidden := s.permit(request{Call: q.Call, target: target{bucket: q.bucket}}, "s3:ListBucket"); hidden != nil && explain(err).told.Code == "NoSuchKey" {
			return nil, hidden
		}
		return nil, err
	}
	a, err := o.answer(q.Request.Header)
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	a.file = file
	return a, nil
}

// answer decides what of the object a request gets: all, a range, or nothing new.
func (o object) answer(asked http.Header) (answer, error) {
	if tags := asked.Get("If-Match"); tags != "" && !o.matches(tags) {
		return answer{}, refuse(http.StatusPreconditionFailed, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold", detail{"Condition", "If-Match"})
	}
	if tags := asked.Get("If-None-Match"); tags != "" && o.matches(tags) {
		return answer{status: http.StatusNotModified, header: o.identity(false)}, nil
	}
	first, size, partial, err := o.ranged(asked.Get("Range"))
	if err != nil {
		return answer{}, err
	}
	a := answer{header: o.identity(asked.Get("X-Amz-Checksum-Mode") == "ENABLED" && !partial), size: size, first: first}
	for name, value := range o.Headers {
		a.header.Set(name, value)
	}
	a.header.Set("Last-Modified", o.Modified.Format(http.TimeFormat))
	a.header.Set("Accept-Ranges", "bytes")
	a.header.Set("Content-Length", strconv.FormatInt(size, 10))
	if partial {
		a.status = http.StatusPartialContent
		a.header.Set("Content-Range", "bytes "+strconv.FormatInt(first, 10)+"-"+strconv.FormatInt(first+size-1, 10)+"/"+strconv.FormatInt(o.Size, 10))
	}
	return a, nil
}

// matches tells whether a list of entity tags has the object's.
func (o object) matches(tags string) bool {
	for tag := range strings.SplitSeq(tags, ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || strings.Trim(tag, `"`) == o.ETag {
			return true
		}
	}
	return false
}

// ranged reads a Range header. As on S3 one that is malformed or has several ranges asks for all.
func (o object) ranged(text string) (first, size int64, partial bool, err error) {
	from, to, ok := strings.Cut(strings.TrimPrefix(text, "bytes="), "-")
	if !ok || !strings.HasPrefix(text, "bytes=") {
		return 0, o.Size, false, nil
	}
	a, errA := strconv.ParseUint(from, 10, 63)
	z, errZ := strconv.ParseUint(to, 10, 63)
	first, last := int64(a), o.Size-1
	switch {
	case from == "" && errZ == nil: // the last bytes
		first = max(0, o.Size-int64(z))
		if z == 0 {
			first = o.Size
		}
	case errA == nil && errZ == nil && a <= z:
		last = min(last, int64(z))
	case errA == nil && to == "":
	default:
		return 0, o.Size, false, nil
	}
	if first > last {
		return 0, 0, false, refuse(http.StatusRequestedRangeNotSatisfiable, "InvalidRange", "The requested range is not satisfiable",
			detail{"RangeRequested", text}, detail{"ActualObjectSize", strconv.FormatInt(o.Size, 10)})
	}
	return first, last - first + 1, true, nil
}

func (s Service) deleteObject(q request) (any, error) {
	if err := s.Buckets.delete(q.bucket, q.key); err != nil {
		return nil, err
	}
	return answer{status: http.StatusNoContent}, nil
}

type deleteRequest struct {
	XMLName xml.Name `xml:"Delete"`
	Quiet   bool
	Object  []struct {
		Key    string
		Others others `xml:",any"`
	}
	Others others `xml:",any"`
}

type deleteResult struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ DeleteResult"`
	Deleted []struct{ Key text }
	Error   []failedDelete
}

type failedDelete struct {
	Key           text
	Code, Message string
}

func (s Service) deleteObjects(q request) (any, error) {
	data, b, err := document(q.Request)
	if err != nil {
		return nil, err
	}
	if b.md5 == "" && !b.claimed {
		return nil, invalidRequest("Missing required header for this request: Content-MD5")
	}
	var in deleteRequest
	if err := xml.Unmarshal(data, &in); err != nil || len(in.Object) == 0 || len(in.Object) > maxDeleted {
		return nil, errMalformedXML
	}
	if err := in.Others.refuse(); err != nil {
		return nil, err
	}
	var out deleteResult
	var keys []string
	for _, o := range in.Object {
		if err := o.Others.refuse(); err != nil {
			return nil, err
		}
		if err := checkKey(o.Key); err != nil || o.Key == "" {
			out.Error = append(out.Error, failedDelete{asText(o.Key), "KeyTooLongError", "Your key is too long"})
			continue
		}
		keys = append(keys, o.Key)
		if !in.Quiet {
			out.Deleted = append(out.Deleted, struct{ Key text }{asText(o.Key)})
		}
	}
	if err := s.Buckets.delete(q.bucket, keys...); err != nil {
		return nil, err
	}
	return answer{value: out}, nil
}
