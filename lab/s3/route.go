package s3

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxKey is the most bytes that a key has.
const maxKey = 1024

// Operations that are told apart by name.
const (
	createBucket      = "CreateBucket"
	getBucketLocation = "GetBucketLocation"
)

// operation is one of the service's.
type operation struct {
	name       string
	permission string
	parameters []string // of the query
	headers    []string // besides those of every operation; one that ends in - is a prefix
	hasBody    bool
	do         func(Service, request) (any, error)
}

// target is what a request's path names: the bucket is its first part, and the key the rest.
type target struct{ bucket, key string }

func targetOf(r *http.Request) target {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	return target{bucket, key}
}

// route finds a request's operation by its path, its method and its query.
func route(r *http.Request) (operation, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return operation{}, badRequest("InvalidURI", "Couldn't parse the specified URI.")
	}
	o, ok := find(r.Method, targetOf(r), query)
	if !ok && isOldList(r.Method, targetOf(r), query) {
		return o, notImplemented("ListObjects, but ListObjectsV2: send list-type=2")
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		value := query.Get(name)
		switch {
		case len(query[name]) > 1:
			return o, invalidArgument(name, value, "The parameter "+name+" is given more than once.")
		case name == "x-id" && ok && value != o.name:
			return o, notImplemented("the operation %s", value)
		case name != "x-id" && !slices.Contains(o.parameters, name):
			return o, notImplemented("the query parameter %s of %s %s", name, r.Method, shape(targetOf(r)))
		}
	}
	if !ok {
		return o, notImplemented("the operation %s %s", r.Method, shape(targetOf(r)))
	}
	return o, nil
}

// shape is a path as the API reference has it.
func shape(t target) string {
	switch {
	case t.bucket == "":
		return "/"
	case t.key == "":
		return "/{Bucket}"
	}
	return "/{Bucket}/{Key+}"
}

// isOldList tells whether it is the list that ListObjectsV2 replaces, which no parameter names.
func isOldList(method string, t target, query url.Values) bool {
	own := []string{"prefix", "delimiter", "marker", "max-keys", "encoding-type", "x-id"}
	for name := range query {
		if !slices.Contains(own, name) {
			return false
		}
	}
	return method == http.MethodGet && t.bucket != "" && t.key == ""
}

func find(method string, t target, query url.Values) (operation, bool) {
	switch {
	case t.bucket == "":
		return operation{name: "ListBuckets", permission: "s3:ListAllMyBuckets", do: Service.listBuckets}, method == http.MethodGet
	case t.key == "":
		return findOfBucket(method, query)
	}
	return findOfObject(method)
}

func findOfBucket(method string, query url.Values) (operation, bool) {
	switch {
	case method == http.MethodPut:
		return operation{name: createBucket, permission: "s3:CreateBucket", hasBody: true, do: Service.createBucket}, true
	case method == http.MethodHead:
		return operation{name: "HeadBucket", permission: "s3:ListBucket", do: Service.headBucket}, true
	case method == http.MethodDelete:
		return operation{name: "DeleteBucket", permission: "s3:DeleteBucket", do: Service.deleteBucket}, true
	case method == http.MethodGet && query.Has("location"):
		return operation{name: getBucketLocation, permission: "s3:GetBucketLocation", parameters: []string{"location"}, do: Service.getLocation}, true
	case method == http.MethodGet && query.Get("list-type") == "2":
		return operation{
			name: "ListObjectsV2", permission: "s3:ListBucket", do: Service.listObjects,
			parameters: []string{"list-type", "prefix", "delimiter", "max-keys", "continuation-token", "start-after", "encoding-type"},
		}, true
	case method == http.MethodPost && query.Has("delete"):
		return operation{name: "DeleteObjects", permission: "s3:DeleteObject", parameters: []string{"delete"}, hasBody: true, do: Service.deleteObjects}, true
	}
	return operation{}, false
}

func findOfObject(method string) (operation, bool) {
	reading := []string{"x-amz-checksum-mode", "range", "if-match", "if-none-match"}
	switch method {
	case http.MethodPut:
		return operation{name: "PutObject", permission: "s3:PutObject", headers: []string{metaPrefix}, hasBody: true, do: Service.putObject}, true
	case http.MethodGet:
		return operation{name: "GetObject", permission: "s3:GetObject", headers: reading, do: Service.getObject}, true
	case http.MethodHead:
		return operation{name: "HeadObject", permission: "s3:GetObject", headers: reading, do: Service.getObject}, true
	case http.MethodDelete:
		return operation{name: "DeleteObject", permission: "s3:DeleteObject", do: Service.deleteObject}, true
	}
	return operation{}, false
}

// common are the headers of every operation that S3 gives a meaning. Those about the body are
// held to for each body, also one that must be empty.
var common = []string{
	"x-amz-content-sha256", "x-amz-date", "x-amz-security-token", "x-amz-expected-bucket-owner", "x-amz-user-agent",
	"x-amz-decoded-content-length", "x-amz-trailer", "x-amz-sdk-checksum-algorithm",
	checksumPrefix + "crc64nvme", checksumPrefix + "crc32", checksumPrefix + "crc32c", checksumPrefix + "sha1", checksumPrefix + "sha256",
}

// conditions are headers of HTTP that would change what an operation does.
var conditions = []string{"range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"}

// knows refuses a header that the operation would ignore.
func (o operation) knows(header http.Header) error {
	for _, name := range slices.Sorted(maps.Keys(header)) {
		lower := strings.ToLower(name)
		if !strings.HasPrefix(lower, "x-amz-") && !slices.Contains(conditions, lower) || slices.Contains(common, lower) {
			continue
		}
		if !slices.ContainsFunc(o.headers, func(h string) bool { return h == lower || strings.HasSuffix(h, "-") && strings.HasPrefix(lower, h) }) {
			return notImplemented("the header %s of %s", lower, o.name)
		}
	}
	return nil
}

func checkKey(key string) error {
	switch {
	case !utf8.ValidString(key):
		return badRequest("InvalidURI", "Couldn't parse the specified URI.")
	case len(key) > maxKey:
		return badRequest("KeyTooLongError", "Your key is too long", detail{"Size", strconv.Itoa(len(key))}, detail{"MaxSizeAllowed", strconv.Itoa(maxKey)})
	}
	return nil
}
