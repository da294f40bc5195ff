package eks_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awseks "github.com/aws/aws-sdk-go-v2/service/eks"
)

func TestClustersAndAccessEntriesCarryTags(t *testing.T) {
	s, ctx := withEntry(t, "STANDARD"), t.Context()
	entry, err := s.DescribeAccessEntry(ctx, &awseks.DescribeAccessEntryInput{ClusterName: aws.String("kitchen"), PrincipalArn: aws.String(deployer)})
	if err != nil {
		t.Fatal(err)
	}
	for _, arn := range []*string{aws.String("arn:aws:eks:us-west-2:111122223333:cluster/kitchen"), entry.AccessEntry.AccessEntryArn} {
		expect := func(want map[string]string) {
			t.Helper()
			got, err := s.ListTagsForResource(ctx, &awseks.ListTagsForResourceInput{ResourceArn: arn})
			if err != nil || !maps.Equal(got.Tags, want) {
				t.Errorf("%s: got %v, %v, want %v", *arn, got, err, want)
			}
		}
		expect(nil)
		for _, tags := range []map[string]string{{"team": "bakers", "oven": "1"}, {"oven": "2", "empty": ""}} {
			if _, err := s.TagResource(ctx, &awseks.TagResourceInput{ResourceArn: arn, Tags: tags}); err != nil {
				t.Fatal(err)
			}
		}
		expect(map[string]string{"team": "bakers", "oven": "2", "empty": ""})
		if _, err := s.UntagResource(ctx, &awseks.UntagResourceInput{ResourceArn: arn, TagKeys: []string{"oven", "empty", "never"}}); err != nil {
			t.Fatal(err)
		}
		expect(map[string]string{"team": "bakers"})
	}
	if c := s.describe(t); c.Tags["team"] != "bakers" {
		t.Errorf("the cluster shows %v", c.Tags)
	}
}

func TestTagsKeepToTheLimitsOfAWS(t *testing.T) {
	s := start(t, network{})
	if _, err := s.CreateCluster(t.Context(), createInput("kitchen", func(in *awseks.CreateClusterInput) {
		in.Tags = map[string]string{strings.Repeat("ü", 128): strings.Repeat("ü", 256)}
	})); err != nil {
		t.Fatal(err)
	}
	many := map[string]string{}
	for i := range 50 { // and the one that is there
		many[fmt.Sprint(i)] = ""
	}
	const kitchen = "arn:aws:eks:us-west-2:111122223333:cluster/kitchen"
	bad, missing := "*types.BadRequestException", "*types.NotFoundException"
	for name, test := range map[string]struct {
		arn        string
		tags       map[string]string
		kind, want string
	}{
		"a key of AWS's own":     {kitchen, map[string]string{"AWS:x": "y"}, bad, "aws:"},
		"an empty key":           {kitchen, map[string]string{"": "y"}, bad, "1 to 128"},
		"a long key":             {kitchen, map[string]string{strings.Repeat("a", 129): "y"}, bad, "1 to 128"},
		"a long value":           {kitchen, map[string]string{"a": strings.Repeat("a", 257)}, bad, "at most 256"},
		"more than 50":           {kitchen, many, bad, "at most 50"},
		"none":                   {kitchen, map[string]string{}, bad, "at least one"},
		"no ARN":                 {"kitchen", many, bad, "not one of Amazon EKS"},
		"another account":        {"arn:aws:eks:us-west-2:444455556666:cluster/kitchen", many, bad, "region and account"},
		"a cluster that is gone": {"arn:aws:eks:us-west-2:111122223333:cluster/pantry", many, missing, "No resource found"},
		"an entry that is gone":  {"arn:aws:eks:us-west-2:111122223333:access-entry/kitchen/role/111122223333/x/y", many, missing, "No resource found"},
		"a node group":           {"arn:aws:eks:us-west-2:111122223333:nodegroup/kitchen/ng/x", many, missing, "No resource found"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.TagResource(t.Context(), &awseks.TagResourceInput{ResourceArn: aws.String(test.arn), Tags: test.tags})
			checkRefusal(t, err, test.kind, test.want)
		})
	}
	_, err := s.ListTagsForResource(t.Context(), &awseks.ListTagsForResourceInput{ResourceArn: aws.String("arn:aws:eks:us-west-2:111122223333:cluster/pantry")})
	checkRefusal(t, err, missing, "No resource found")
	_, err = s.UntagResource(t.Context(), &awseks.UntagResourceInput{ResourceArn: aws.String(kitchen), TagKeys: []string{}})
	checkRefusal(t, err, bad, "tagKeys")
}
