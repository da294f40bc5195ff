package logs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// call sends a request that no SDK would.
func (w *world) call(action, body string) (status int, answer string) {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.server.URL+"/", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	request.Header.Set("X-Amz-Target", target+action)
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	sum := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: "AKIAADMIN", SecretAccessKey: "secret"}, request, hex.EncodeToString(sum[:]), "logs", "us-west-2", time.Now()); err != nil {
		w.t.Fatal(err)
	}
	response, err := w.server.Client().Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return response.StatusCode, string(bytes.TrimSpace(data))
}

func TestRequestsThatCloudWatchOrTheLabRefuses(t *testing.T) {
	w := start(t)
	w.group("s")
	long := strings.Repeat("x", 513)
	const invalid, missing = "InvalidParameterException", "ResourceNotFoundException"
	for _, tt := range []struct{ name, action, body, code, words string }{
		{"another action", "StartQuery", `{}`, "UnknownOperationException", "StartQuery"},
		{"no JSON", "CreateLogGroup", `{`, "SerializationException", "cannot be read"},
		{"a number for a name", "CreateLogGroup", `{"logGroupName":1}`, "SerializationException", "cannot be read"},
		{"an unknown parameter", "DescribeLogGroups", `{"accountIdentifiers":["1"]}`, invalid, "the parameter accountIdentifiers"},
		{"a parameter in another case", "CreateLogGroup", `{"LogGroupName":"x"}`, invalid, "the parameter LogGroupName"},
		{"an unknown parameter of an event", "PutLogEvents", `{"logGroupName":"g","logStreamName":"s","logEvents":[{"timestamp":1,"message":"x","level":"y"}]}`, invalid, "the parameter logEvents[].level"},
		{"an entity", "PutLogEvents", `{"entity":{}}`, invalid, "the parameter entity"},
		{"unmask", "GetLogEvents", `{"unmask":true}`, invalid, "the parameter unmask"},

		{"no name", "CreateLogGroup", `{}`, invalid, "Value null at 'logGroupName' failed to satisfy constraint: Member must not be null"},
		{"an empty name", "CreateLogGroup", `{"logGroupName":""}`, invalid, "length greater than or equal to 1"},
		{"a long name", "CreateLogGroup", `{"logGroupName":"` + long + `"}`, invalid, "length less than or equal to 512"},
		{"a name with a space", "CreateLogGroup", `{"logGroupName":"a b"}`, invalid, `satisfy regular expression pattern: [\\.\\-_/#A-Za-z0-9]+`},
		{"a name of AWS's own", "CreateLogGroup", `{"logGroupName":"aws/x"}`, invalid, "reserved for AWS"},
		{"another class", "CreateLogGroup", `{"logGroupName":"x","logGroupClass":"INFREQUENT_ACCESS"}`, invalid, "class STANDARD only"},
		{"a class that there is not", "CreateLogGroup", `{"logGroupName":"x","logGroupClass":"x"}`, invalid, "enum value set"},
		{"no tags", "CreateLogGroup", `{"logGroupName":"x","tags":{}}`, invalid, "between 1 and 50"},
		{"a tag of AWS's own", "CreateLogGroup", `{"logGroupName":"x","tags":{"aws:x":"y"}}`, invalid, "reserved for AWS"},
		{"a retention that there is not", "PutRetentionPolicy", `{"logGroupName":"g","retentionInDays":31}`, invalid, "Value '31' at 'retentionInDays' failed to satisfy constraint: Member must satisfy enum value set: [1, 3, 5, 7, 14,"},
		{"no retention", "PutRetentionPolicy", `{"logGroupName":"g"}`, invalid, "null at 'retentionInDays'"},
		{"a retention of no group", "PutRetentionPolicy", `{"logGroupName":"none","retentionInDays":1}`, missing, "The specified log group does not exist."},
		{"no retention of no group", "DeleteRetentionPolicy", `{"logGroupName":"none"}`, missing, "The specified log group does not exist."},
		{"a limit above 50", "DescribeLogGroups", `{"limit":51}`, invalid, "Value '51' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 50"},
		{"a limit of none", "DescribeLogStreams", `{"logGroupName":"g","limit":0}`, invalid, "value greater than or equal to 1"},
		{"a prefix and a pattern", "DescribeLogGroups", `{"logGroupNamePrefix":"a","logGroupNamePattern":"b"}`, invalid, "mutually exclusive"},
		{"a token of nobody's", "DescribeLogGroups", `{"nextToken":"nonsense"}`, invalid, "The specified nextToken is invalid."},

		{"a stream with a colon", "CreateLogStream", `{"logGroupName":"g","logStreamName":"a:b"}`, invalid, "regular expression pattern: [^:*]*"},
		{"a stream of no group", "CreateLogStream", `{"logGroupName":"none","logStreamName":"s"}`, missing, "The specified log group does not exist."},
		{"streams of no group", "DescribeLogStreams", `{"logGroupName":"none"}`, missing, "The specified log group does not exist."},
		{"streams of nothing", "DescribeLogStreams", `{}`, invalid, "Exactly one of logGroupName and logGroupIdentifier"},
		{"streams of two", "DescribeLogStreams", `{"logGroupName":"g","logGroupIdentifier":"g"}`, invalid, "Exactly one of logGroupName and logGroupIdentifier"},
		{"a prefix in the order of time", "DescribeLogStreams", `{"logGroupName":"g","orderBy":"LastEventTime","logStreamNamePrefix":"s"}`, invalid, "Cannot order by LastEventTime with a logStreamNamePrefix."},

		{"no events", "PutLogEvents", `{"logGroupName":"g","logStreamName":"s"}`, invalid, "null at 'logEvents'"},
		{"an empty batch", "PutLogEvents", `{"logGroupName":"g","logStreamName":"s","logEvents":[]}`, invalid, "length greater than or equal to 1"},
		{"too many events", "PutLogEvents", put("g", "s", strings.Repeat(`{"timestamp":1,"message":"x"},`, 10_000)+`{"timestamp":1,"message":"x"}`), invalid, "length less than or equal to 10000"},
		{"an empty message", "PutLogEvents", put("g", "s", `{"timestamp":1,"message":"x"},{"timestamp":1,"message":""}`), invalid, "Value '' at 'logEvents.2.member.message' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"no time", "PutLogEvents", put("g", "s", `{"message":"x"}`), invalid, "null at 'logEvents.1.member.timestamp'"},
		{"a time before 1970", "PutLogEvents", put("g", "s", `{"timestamp":-1,"message":"x"}`), invalid, "value greater than or equal to 0"},
		{"events out of order", "PutLogEvents", put("g", "s", `{"timestamp":2,"message":"x"},{"timestamp":1,"message":"x"}`), invalid, "Log events in a single PutLogEvents request must be in chronological order."},
		{"events for no group", "PutLogEvents", put("none", "s", `{"timestamp":1,"message":"x"}`), missing, "The specified log group does not exist."},
		{"events for no stream", "PutLogEvents", put("g", "none", `{"timestamp":1,"message":"x"}`), missing, "The specified log stream does not exist."},

		{"events of no stream", "GetLogEvents", `{"logGroupName":"g","logStreamName":"none"}`, missing, "The specified log stream does not exist."},
		{"a limit above 10,000", "GetLogEvents", `{"logGroupName":"g","logStreamName":"s","limit":10001}`, invalid, "less than or equal to 10000"},
		{"a place of nobody's", "GetLogEvents", `{"logGroupName":"g","logStreamName":"s","nextToken":"f/1/s"}`, invalid, "The specified nextToken is invalid."},
		{"a time below zero", "GetLogEvents", `{"logGroupName":"g","logStreamName":"s","startTime":-1}`, invalid, "at 'startTime'"},

		{"streams by name and prefix", "FilterLogEvents", `{"logGroupName":"g","logStreamNames":["s"],"logStreamNamePrefix":"s"}`, invalid, "but not both"},
		{"a search in no stream", "FilterLogEvents", `{"logGroupName":"g","logStreamNames":["none"]}`, missing, "The specified log stream does not exist."},
		{"from the tail of all time", "FilterLogEvents", `{"logGroupName":"g","startFromHead":false}`, invalid, "January 1, 2024"},
		{"a token of another place", "FilterLogEvents", `{"logGroupName":"g","nextToken":"eA"}`, invalid, "The specified nextToken is invalid."},
		{"a pattern of JSON", "FilterLogEvents", `{"logGroupName":"g","filterPattern":"{ $.a = 1 }"}`, invalid, "filter patterns of JSON: { $.a = 1 }"},
		{"a pattern of fields", "FilterLogEvents", `{"logGroupName":"g","filterPattern":"[a, b]"}`, invalid, "filter patterns of fields"},
		{"a regular expression", "FilterLogEvents", `{"logGroupName":"g","filterPattern":"%a.b%"}`, invalid, "filter patterns of regular expressions"},
		{"an optional term", "FilterLogEvents", `{"logGroupName":"g","filterPattern":"?a ?b"}`, invalid, "optional terms in filter patterns: ?a"},
		{"an excluded term", "FilterLogEvents", `{"logGroupName":"g","filterPattern":"a -b"}`, invalid, "excluded terms in filter patterns: -b"},
		{"a term with a slash", "FilterLogEvents", `{"logGroupName":"g","filterPattern":"a/b"}`, invalid, "Invalid character(s) in term 'a/b'"},
		{"a quotation without end", "FilterLogEvents", `{"logGroupName":"g","filterPattern":"\"a b"}`, invalid, "Invalid character(s) in term"},
	} {
		status, answer := w.call(tt.action, tt.body)
		if words := strings.ReplaceAll(tt.words, `"`, `\"`); status != http.StatusBadRequest || !strings.Contains(answer, `"__type":"`+tt.code+`"`) || !strings.Contains(answer, words) {
			t.Errorf("%s: %d %s\nwant %s: %s", tt.name, status, answer, tt.code, tt.words)
		}
	}
	if all, _ := w.get("s"); all != "" {
		t.Errorf("a refused batch has left %q", all)
	}
}

func put(group, stream, events string) string {
	return `{"logGroupName":"` + group + `","logStreamName":"` + stream + `","logEvents":[` + events + `]}`
}
