package eks_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awseks "github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"
)

func TestVersionsOnOfferAreDescribed(t *testing.T) {
	s := start(t, network{})
	type in = awseks.DescribeClusterVersionsInput
	for name, test := range map[string]struct {
		input in
		want  string
	}{
		"all":                            {in{}, "1.36 1.37"},
		"the default":                    {in{DefaultOnly: aws.Bool(true)}, "1.37"},
		"one by name":                    {in{ClusterVersions: []string{"1.36", "1.20"}}, "1.36"},
		"those in standard support":      {in{VersionStatus: types.VersionStatusStandardSupport}, "1.36 1.37"},
		"the same by the older member":   {in{Status: types.ClusterVersionStatusStandardSupport}, "1.36 1.37"}, //nolint:staticcheck // deprecated, and still sent
		"those that are not any more":    {in{VersionStatus: types.VersionStatusUnsupported}, ""},
		"those of another kind":          {in{ClusterType: aws.String("eks-anywhere")}, ""},
		"the first page":                 {in{MaxResults: aws.Int32(1)}, "1.36 more"},
		"those that EKS would leave out": {in{IncludeAll: aws.Bool(true)}, "1.36 1.37"},
	} {
		described, err := s.DescribeClusterVersions(t.Context(), &test.input)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, v := range described.ClusterVersions {
			got = append(got, *v.ClusterVersion)
			if *v.KubernetesPatchVersion != *v.ClusterVersion+".2" || *v.DefaultPlatformVersion != "eks.1" || v.DefaultVersion != (*v.ClusterVersion == "1.37") {
				t.Errorf("%s: %+v", name, v)
			}
		}
		if described.NextToken != nil {
			got = append(got, "more")
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s: got %v, want %s", name, got, test.want)
		}
	}
	_, err := s.DescribeClusterVersions(t.Context(), &in{VersionStatus: "FRESH"})
	checkRefusal(t, err, "*types.InvalidParameterException", "versionStatus")
}

func TestWhatThereIsNoneOfIsListedEmptyAndNotFound(t *testing.T) {
	s, ctx := start(t, network{}), t.Context()
	if _, err := s.CreateCluster(ctx, createInput("kitchen")); err != nil {
		t.Fatal(err)
	}
	name := aws.String("kitchen")
	groups, err := s.ListNodegroups(ctx, &awseks.ListNodegroupsInput{ClusterName: name, MaxResults: aws.Int32(5)})
	if err != nil || groups.Nodegroups == nil || len(groups.Nodegroups) != 0 {
		t.Errorf("node groups: %+v, %v", groups, err)
	}
	insights, err := s.ListInsights(ctx, &awseks.ListInsightsInput{ClusterName: name, Filter: &types.InsightsFilter{Categories: []types.Category{types.CategoryUpgradeReadiness}}})
	if err != nil || insights.Insights == nil || len(insights.Insights) != 0 {
		t.Errorf("insights: %+v, %v", insights, err)
	}
	_, err = s.DescribeNodegroup(ctx, &awseks.DescribeNodegroupInput{ClusterName: name, NodegroupName: aws.String("ng")})
	checkRefusal(t, err, "*types.ResourceNotFoundException", "No node group found for name: ng.")
	_, err = s.DescribeInsight(ctx, &awseks.DescribeInsightInput{ClusterName: name, Id: aws.String("1")})
	checkRefusal(t, err, "*types.ResourceNotFoundException", "No insight found")
	_, err = s.ListInsights(ctx, &awseks.ListInsightsInput{ClusterName: name, MaxResults: aws.Int32(101)})
	checkRefusal(t, err, "*types.InvalidParameterException", "maxResults")
	_, err = s.ListInsights(ctx, &awseks.ListInsightsInput{ClusterName: name, Filter: &types.InsightsFilter{Statuses: []types.InsightStatusValue{"GREEN"}}})
	checkRefusal(t, err, "*types.InvalidParameterException", "filter.statuses")
}

func TestEveryListOfAClusterDemandsOne(t *testing.T) {
	s, nowhere := start(t, network{}), aws.String("nowhere")
	for name, list := range map[string]func(context.Context) error{
		"updates": func(ctx context.Context) error {
			_, err := s.ListUpdates(ctx, &awseks.ListUpdatesInput{Name: nowhere})
			return err
		},
		"access entries": func(ctx context.Context) error {
			_, err := s.ListAccessEntries(ctx, &awseks.ListAccessEntriesInput{ClusterName: nowhere})
			return err
		},
		"node groups": func(ctx context.Context) error {
			_, err := s.ListNodegroups(ctx, &awseks.ListNodegroupsInput{ClusterName: nowhere})
			return err
		},
		"insights": func(ctx context.Context) error {
			_, err := s.ListInsights(ctx, &awseks.ListInsightsInput{ClusterName: nowhere})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			checkRefusal(t, list(t.Context()), "*types.ResourceNotFoundException", "No cluster found for name: nowhere.")
		})
	}
}

func TestAPathThatIsNoOperationIsUnknown(t *testing.T) {
	s := start(t, network{})
	for _, target := range []string{"GET /nothing", "PATCH /clusters", "GET /clusters/kitchen/nothing", "GET /"} {
		method, path, _ := strings.Cut(target, " ")
		request, err := http.NewRequestWithContext(t.Context(), method, s.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		empty := sha256.Sum256(nil)
		if err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: "AKIAADMIN", SecretAccessKey: "secret"}, request, hex.EncodeToString(empty[:]), "eks", "us-west-2", time.Now()); err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != http.StatusNotFound || response.Header.Get("X-Amzn-Errortype") != "UnknownOperationException" || !strings.Contains(string(body), `"message"`) {
			t.Errorf("%s: got %d %s", target, response.StatusCode, body)
		}
	}
}
