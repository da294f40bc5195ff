package cloudformation

import (
	"context"
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/smithy-go"
	"go.uber.org/zap/zaptest"

	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

type key struct{}

func (key) Lookup(_ context.Context, id string) (sigv4.Credential, error) {
	return sigv4.Credential{AccessKeyID: id, SecretAccessKey: "secret", SessionToken: "t", ARN: "arn:aws:sts::111122223333:assumed-role/ovenbird-node/i-1"}, nil
}

func serve(t *testing.T) (*Signals, *cloudformation.Client) {
	t.Helper()
	signals := &Signals{}
	server := httptest.NewTLSServer(wire.Endpoint{
		Services: []wire.Service{Service{signals}}, Keys: key{}, Regions: []string{"us-west-2"}, Now: time.Now, Logger: zaptest.NewLogger(t),
	})
	t.Cleanup(server.Close)
	return signals, cloudformation.New(cloudformation.Options{
		Region: "us-west-2", BaseEndpoint: aws.String(server.URL), HTTPClient: server.Client(), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("ASIA", "secret", "t"),
	})
}

func signal(client *cloudformation.Client, stack, resource, id string, status types.ResourceSignalStatus) error {
	_, err := client.SignalResource(context.Background(), &cloudformation.SignalResourceInput{
		StackName: &stack, LogicalResourceId: &resource, UniqueId: &id, Status: status,
	})
	return err
}

func refused(t *testing.T, err error, code, message string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), message) {
		t.Errorf("got %v, want %s with %q", err, code, message)
	}
}

func TestInstancesSignalAResourceThatSomebodyWaitsFor(t *testing.T) {
	signals, client := serve(t)
	refused(t, signal(client, "workers", "Nodes", "i-1", types.ResourceSignalStatusSuccess), "ValidationError", "Stack 'workers' does not exist")
	if err := signals.Expect("workers", "Nodes"); err != nil {
		t.Fatal(err)
	}
	refused(t, signal(client, "workers", "Others", "i-1", types.ResourceSignalStatusSuccess), "ValidationError", "Others")
	refused(t, signal(client, "workers", "Nodes", "i-1", "PERHAPS"), "ValidationError", "PERHAPS")
	for _, id := range []string{"i-1", "i-2"} {
		if err := signal(client, "workers", "Nodes", id, types.ResourceSignalStatusSuccess); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, signal(client, "workers", "Nodes", "i-1", types.ResourceSignalStatusSuccess), "ValidationError", "Signal with ID i-1")
	if err := signal(client, "workers", "Nodes", "i-1", types.ResourceSignalStatusFailure); err != nil {
		t.Errorf("a success that became a failure: %v", err)
	}
	list, err := signals.Received("workers", "Nodes")
	if err != nil || !slices.Equal(list, []Signal{{"i-1", Failure}, {"i-2", Success}}) {
		t.Errorf("%v, %v", list, err)
	}
	signals.Forget("workers", "Nodes")
	refused(t, signal(client, "workers", "Nodes", "i-3", types.ResourceSignalStatusSuccess), "ValidationError", "does not exist")
}

func TestThereIsNoOtherAction(t *testing.T) {
	_, client := serve(t)
	_, err := client.ListStacks(t.Context(), &cloudformation.ListStacksInput{})
	refused(t, err, "InvalidAction", "ListStacks")
}
