package eks

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awseks "github.com/aws/aws-sdk-go-v2/service/eks"
	"go.uber.org/zap"
)

var rewrite = flag.Bool("update", false, "rewrite the generated parts of the documentation")

const compatibilityPage = "../../docs/eks-compatibility.md"

func byName() map[string]apiOperation {
	all := map[string]apiOperation{}
	for _, o := range operations() {
		all[o.name] = o
	}
	return all
}

func TestEveryOperationOfTheSDKIsInTheTable(t *testing.T) {
	table, client := byName(), reflect.TypeFor[*awseks.Client]()
	if len(table) != len(operations()) {
		t.Error("an operation is there twice")
	}
	for i := range client.NumMethod() {
		method := client.Method(i)
		if method.Type.NumIn() < 3 || method.Type.In(1) != reflect.TypeFor[context.Context]() {
			continue // Options
		}
		if _, ok := table[method.Name]; !ok {
			t.Errorf("%s is missing", method.Name)
		}
		delete(table, method.Name)
	}
	for name := range table {
		t.Errorf("the SDK has no %s", name)
	}
}

// fixtures are requests as the SDK's own tests hold them, by operation.
func fixtures(t *testing.T) map[string]*http.Request {
	t.Helper()
	requests := map[string]*http.Request{}
	for name, data := range Snapshots(t, "request") {
		// Method and path, an empty line, headers, an empty line, the body.
		line, rest, _ := strings.Cut(data, "\n")
		_, body, _ := strings.Cut(strings.TrimPrefix(rest, "\n"), "\n\n")
		method, target, _ := strings.Cut(line, " ")
		requests[name] = httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	}
	return requests
}

// Snapshots are files that the SDK's own tests hold its requests or responses to, by operation.
func Snapshots(t *testing.T, of string) map[string]string {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go-v2/service/eks").Output()
	if err != nil {
		t.Fatalf("find the SDK's fixtures: %v", err)
	}
	suffix := "." + of + ".snap"
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(output)), of+"_snapshot", "*"+suffix))
	if err != nil || len(files) == 0 {
		t.Fatalf("the SDK has no fixtures: %v", err)
	}
	found := map[string]string{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found[strings.TrimSuffix(filepath.Base(file), suffix)] = string(data)
	}
	return found
}

func TestEveryRequestOfTheSDKFindsItsOperation(t *testing.T) {
	mux, table := new(api).routes(), byName()
	for name, request := range fixtures(t) {
		o := table[name]
		if _, pattern := mux.Handler(request); pattern != o.method+" "+o.path {
			t.Errorf("%s: %s %s finds %q, want %s %s", name, request.Method, request.URL, pattern, o.method, o.path)
		}
	}
}

func TestEveryMemberOfARequestIsKnown(t *testing.T) {
	requests := fixtures(t)
	for name, body := range map[string]any{
		"CreateCluster": createRequest{}, "UpdateClusterConfig": updateConfigRequest{}, "UpdateClusterVersion": updateVersionRequest{},
		"CreateAccessEntry": createEntryRequest{}, "UpdateAccessEntry": updateEntryRequest{}, "AssociateAccessPolicy": associateRequest{},
		"TagResource": tagRequest{}, "ListInsights": insightsRequest{},
	} {
		members := map[string]json.RawMessage{}
		if err := json.NewDecoder(requests[name].Body).Decode(&members); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		known := jsonMembers(reflect.TypeOf(body))
		for member := range members {
			if !known[member] {
				t.Errorf("%s: %s would be ignored", name, member)
			}
		}
	}
}

// jsonMembers are the names that a struct decodes, those of embedded ones included.
func jsonMembers(of reflect.Type) map[string]bool {
	names := map[string]bool{}
	for _, field := range reflect.VisibleFields(of) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		names[name] = true
	}
	return names
}

func TestEveryErrorIsATypeOfTheSDK(t *testing.T) {
	for _, err := range []error{
		invalidParameter("c", "x"), badRequest("c", "x"), notFound("c", "x"), inUse("c", "x"), unavailable("x"), badTags("x"), noResource("x"),
		errors.New("not for the caller"),
	} {
		a := &api{Options: Options{Log: zap.NewNop()}}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.fail(w, r, err) }))
		client := awseks.New(awseks.Options{Region: "us-west-2", BaseEndpoint: aws.String(server.URL), Retryer: aws.NopRetryer{}, Credentials: aws.AnonymousCredentials{}})
		_, got := client.DescribeCluster(t.Context(), &awseks.DescribeClusterInput{Name: aws.String("c")})
		server.Close()
		want := "ServerException"
		if known := new(apiError); errors.As(err, &known) {
			want = known.kind
		}
		if kind := typeOf(got); kind != "*types."+want {
			t.Errorf("%v: got %s, want *types.%s", err, kind, want)
		}
	}
}

// typeOf names the innermost error.
func typeOf(err error) string {
	for {
		inner, ok := err.(interface{ Unwrap() error })
		if !ok {
			return fmt.Sprintf("%T", err)
		}
		err = inner.Unwrap()
	}
}

func TestThePageAboutCompatibilityHasTheTable(t *testing.T) {
	var table strings.Builder
	table.WriteString("| operation | state | |\n| --- | --- | --- |\n")
	for _, o := range operations() {
		fmt.Fprintf(&table, "| %s | %s | %s |\n", o.name, o.state, o.note)
	}
	CheckPage(t, "operations", table.String())
}

// CheckPage holds the part of the page between two marks to what it should be.
func CheckPage(t *testing.T, mark, want string) {
	t.Helper()
	page, err := os.ReadFile(compatibilityPage)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- begin "+mark+" -->\n", "<!-- end "+mark+" -->\n"
	before, rest, found := strings.Cut(string(page), begin)
	got, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no marks for %s", compatibilityPage, mark)
	}
	if got == want {
		return
	}
	if *rewrite {
		if err := os.WriteFile(compatibilityPage, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("%s says of %s (go test -update rewrites it):\n%s\nwant:\n%s", compatibilityPage, mark, got, want)
}
