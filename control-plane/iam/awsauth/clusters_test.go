package awsauth

import (
	"context"
	"errors"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

const mapped = "arn:aws:iam::111122223333:role/my-role"

func TestMappingsOfAnEarlierClusterCountNoMore(t *testing.T) {
	s, asked := NewClusters(zaptest.NewLogger(t)), make(chan struct{})
	earlier, err := Parse(map[string]string{"mapRoles": usual})
	if err != nil {
		t.Fatal(err)
	}
	s.set("kitchen", earlier)
	client := fake.NewClientset()
	client.PrependReactor("list", "configmaps", func(clienttesting.Action) (bool, runtime.Object, error) {
		asked <- struct{}{}
		return true, nil, errors.New("not yet")
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx, registry.Cluster{Name: "kitchen"}, client) }()
	<-asked
	if entry, err := s.Entry("kitchen", mapped); err == nil || errors.Is(err, registry.ErrNotFound) {
		t.Errorf("before the ConfigMap is read: got %+v, %v", entry, err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestNothingIsKnownOfAClusterThatHasGone(t *testing.T) {
	read := make(chan struct{}, 1)
	s := NewClusters(zaptest.NewLogger(t, zaptest.WrapOptions(zap.Hooks(func(zapcore.Entry) error {
		read <- struct{}{}
		return nil
	}))))
	client := fake.NewClientset(&core.ConfigMap{ObjectMeta: meta.ObjectMeta{Namespace: namespace, Name: configMap}, Data: map[string]string{"mapRoles": usual}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx, registry.Cluster{Name: "kitchen"}, client) }()
	<-read
	if _, err := s.Entry("kitchen", mapped); err != nil {
		t.Error(err)
	}
	cancel()
	<-ended
	if entry, err := s.Entry("kitchen", mapped); err == nil || errors.Is(err, registry.ErrNotFound) {
		t.Errorf("got %+v, %v", entry, err)
	}
}
