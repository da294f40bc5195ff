package eks_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awseks "github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"

	"github.com/ovenbird-dev/ovenbird/control-plane/eks"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// startMoto starts moto's server and returns its URL; it ends with the test.
func startMoto(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("moto_server")
	if err != nil {
		t.Skip("moto_server is not on the PATH: nothing to compare with, in CI either")
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, "-H", "127.0.0.1", "-p", "0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	said, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatalf("start moto_server: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	late := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	running := regexp.MustCompile(`Running on (http://127\.0\.0\.1:[0-9]+)`)
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		if found := running.FindStringSubmatch(lines.Text()); found != nil {
			go func() { // so that it never waits for a reader
				for lines.Scan() {
				}
			}()
			return found[1]
		}
	}
	t.Fatal("moto_server ended, or did not say where it runs within two minutes")
	return ""
}

// answersOf makes the same cluster and asks the same of an EKS API, and returns the raw answers by
// what was asked.
func answersOf(t *testing.T, url string, made func()) map[string]any {
	t.Helper()
	var body bytes.Buffer
	client := client(url, "AKIAADMIN", "secret", "", func(o *awseks.Options) { o.HTTPClient = bodyKeeper{http.DefaultClient} })
	ctx := context.WithValue(t.Context(), bodyKey{}, &body)
	created, err := client.CreateCluster(ctx, createInput("kitchen", func(in *awseks.CreateClusterInput) { in.Tags = map[string]string{"team": "bakers"} }))
	if err != nil {
		t.Fatalf("create a cluster at %s: %v", url, err)
	}
	made()
	name := aws.String("kitchen")
	answers := map[string]any{}
	for asked, ask := range map[string]func() error{
		"DescribeCluster": func() error {
			_, err := client.DescribeCluster(ctx, &awseks.DescribeClusterInput{Name: name})
			return err
		},
		"DescribeCluster of none": func() error {
			_, err := client.DescribeCluster(ctx, &awseks.DescribeClusterInput{Name: aws.String("nowhere")})
			return err
		},
		"ListClusters": func() error {
			_, err := client.ListClusters(ctx, &awseks.ListClustersInput{})
			return err
		},
		"ListNodegroups": func() error {
			_, err := client.ListNodegroups(ctx, &awseks.ListNodegroupsInput{ClusterName: name})
			return err
		},
		"DescribeNodegroup of none": func() error {
			_, err := client.DescribeNodegroup(ctx, &awseks.DescribeNodegroupInput{ClusterName: name, NodegroupName: aws.String("none")})
			return err
		},
		"ListTagsForResource": func() error {
			_, err := client.ListTagsForResource(ctx, &awseks.ListTagsForResourceInput{ResourceArn: created.Cluster.Arn})
			return err
		},
	} {
		body.Reset()
		var missing *types.ResourceNotFoundException
		if err := ask(); (err != nil) != strings.HasSuffix(asked, "of none") || err != nil && !errors.As(err, &missing) {
			t.Errorf("%s at %s: %v", asked, url, err)
		}
		var answer any
		if err := json.Unmarshal(body.Bytes(), &answer); err != nil {
			t.Errorf("%s at %s: %v in %s", asked, url, err, body.Bytes())
		}
		answers[asked] = answer
	}
	return answers
}

// differences are the members that only one of two answers has, or only with a value.
func differences(path string, here, there any) []string {
	switch here := here.(type) {
	case map[string]any:
		there, _ := there.(map[string]any)
		var all []string
		keys := maps.Clone(here)
		maps.Copy(keys, there)
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			switch inner := strings.TrimPrefix(path+"."+key, "."); {
			case here[key] == nil && there[key] == nil:
			case there[key] == nil:
				all = append(all, "`"+inner+"` | Ovenbird")
			case here[key] == nil:
				all = append(all, "`"+inner+"` | moto")
			default:
				all = append(all, differences(inner, here[key], there[key])...)
			}
		}
		return all
	case []any:
		if there, _ := there.([]any); len(here) > 0 && len(there) > 0 {
			return differences(path+"[]", here[0], there[0])
		}
	}
	return nil
}

func TestAnswersDifferFromThoseOfMotoAsThePageSays(t *testing.T) {
	moto := answersOf(t, startMoto(t), func() {})
	s := start(t, network{})
	ours := answersOf(t, s.url, func() {
		_, err := s.registry.Change(t.Context(), "kitchen", func(c *registry.Cluster) error {
			c.Status = registry.Status{Phase: registry.PhaseActive, Endpoint: "https://10.0.0.10:6443", CertificateAuthority: []byte("PEM\n")}
			c.Issuer = "https://10.0.0.10/id/0123456789abcdef0123456789abcdef"
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	var table strings.Builder
	table.WriteString("| answer | member | only of |\n| --- | --- | --- |\n")
	for _, asked := range slices.Sorted(maps.Keys(ours)) {
		for _, difference := range differences("", ours[asked], moto[asked]) {
			fmt.Fprintf(&table, "| %s | %s |\n", asked, difference)
		}
	}
	eks.CheckPage(t, "moto", table.String())
}
