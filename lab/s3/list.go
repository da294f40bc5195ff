package s3

import (
	"encoding/base64"
	"encoding/xml"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxKeys is the most that a page of a list has.
const maxKeys = 1000

// listing is what a list is asked for.
type listing struct {
	prefix, delimiter string
	after             string // keys up to here are left out
	token             string // of the page before: what it ended with, a key or a common prefix
	size              int
}

// page is a part of a list: keys, and prefixes that stand for the keys that begin with them.
type page struct {
	keys, prefixes []string
	next           string // the token of the next page; empty: there is none
}

// of lists keys, which are sorted.
func (l listing) of(keys []string) page {
	var p page
	last := ""
	for _, key := range keys {
		rest, ok := strings.CutPrefix(key, l.prefix)
		if !ok || l.token == "" && key <= l.after {
			continue
		}
		item, isPrefix := key, false
		if head, _, found := strings.Cut(rest, l.delimiter); found && l.delimiter != "" {
			item, isPrefix = l.prefix+head+l.delimiter, true
		}
		if l.token != "" && item <= l.token || isPrefix && item == last {
			continue
		}
		if len(p.keys)+len(p.prefixes) == l.size {
			p.next = last
			return p
		}
		last = item
		if isPrefix {
			p.prefixes = append(p.prefixes, item)
		} else {
			p.keys = append(p.keys, item)
		}
	}
	return p
}

// listed is what ListObjectsV2 answers.
type listed struct {
	XMLName               xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	Name                  string
	Prefix                text
	Delimiter             *text  `xml:",omitempty"`
	StartAfter            *text  `xml:",omitempty"`
	ContinuationToken     string `xml:",omitempty"`
	NextContinuationToken string `xml:",omitempty"`
	EncodingType          string `xml:",omitempty"`
	KeyCount, MaxKeys     int
	IsTruncated           bool
	Contents              []content
	CommonPrefixes        []struct{ Prefix text }
}

type content struct {
	Key                text
	LastModified, ETag string
	Size               int64
	ChecksumAlgorithm  string
	ChecksumType       string
	StorageClass       string
}

func (s Service) listObjects(q request) (any, error) {
	l, err := readListing(q.query)
	if err != nil {
		return nil, err
	}
	encode := asText
	if q.query.Get("encoding-type") == "url" {
		encode = asURL
	}
	all, err := s.Buckets.list(q.bucket)
	if err != nil {
		return nil, err
	}
	p := l.of(slices.Sorted(maps.Keys(all)))
	out := listed{
		Name: q.bucket, Prefix: encode(l.prefix), ContinuationToken: q.query.Get("continuation-token"), EncodingType: q.query.Get("encoding-type"),
		KeyCount: len(p.keys) + len(p.prefixes), MaxKeys: l.size, IsTruncated: p.next != "",
	}
	for name, field := range map[string]**text{"delimiter": &out.Delimiter, "start-after": &out.StartAfter} {
		if value := q.query.Get(name); value != "" {
			encoded := encode(value)
			*field = &encoded
		}
	}
	if p.next != "" {
		out.NextContinuationToken = base64.StdEncoding.EncodeToString([]byte(p.next))
	}
	for _, key := range p.keys {
		o := all[key]
		out.Contents = append(out.Contents, content{
			Key: encode(key), LastModified: o.Modified.Format(timeFormat), ETag: o.quoted(), Size: o.Size,
			ChecksumAlgorithm: strings.ToUpper(o.Checksum.Algorithm), ChecksumType: "FULL_OBJECT", StorageClass: "STANDARD",
		})
	}
	for _, prefix := range p.prefixes {
		out.CommonPrefixes = append(out.CommonPrefixes, struct{ Prefix text }{encode(prefix)})
	}
	return answer{value: out}, nil
}

func readListing(query url.Values) (listing, error) {
	l := listing{prefix: query.Get("prefix"), delimiter: query.Get("delimiter"), after: query.Get("start-after"), size: maxKeys}
	if query.Has("max-keys") {
		text := query.Get("max-keys")
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 0 {
			return l, invalidArgument("max-keys", text, "Argument maxKeys must be an integer between 0 and 2147483647")
		}
		l.size = min(maxKeys, int(n))
	}
	if query.Has("continuation-token") {
		text := query.Get("continuation-token")
		token, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(token) == 0 {
			return l, invalidArgument("continuation-token", text, "The continuation token provided is incorrect")
		}
		l.token = string(token)
	}
	if encoding := query.Get("encoding-type"); query.Has("encoding-type") && encoding != "url" {
		return l, invalidArgument("encoding-type", encoding, "Invalid Encoding Method specified in Request")
	}
	return l, nil
}
