package kubelet

import (
	"bytes"
	"encoding/json"
	"path"
	"strings"
	"testing"

	v1 "k8s.io/kubelet/config/v1"
)

func TestKubeletFindsTheCredentialProviderByItsName(t *testing.T) {
	var config v1.CredentialProviderConfig
	decoder := json.NewDecoder(bytes.NewReader(providerConfig))
	decoder.DisallowUnknownFields() // as kubelet does
	if err := decoder.Decode(&config); err != nil {
		t.Fatal(err)
	}
	if len(config.Providers) != 1 {
		t.Fatalf("%d providers", len(config.Providers))
	}
	got := config.Providers[0]
	if got.Name != path.Base(providerPath) || got.DefaultCacheDuration == nil || got.APIVersion != "credentialprovider.kubelet.k8s.io/v1" {
		t.Errorf("got %+v", got)
	}
	files := providerFiles()
	if last := files[len(files)-1]; last.Path != providerPath || last.Mode != 0o755 || !strings.HasPrefix(string(last.Data), "#!/bin/sh\n") {
		t.Errorf("got %s, %v", last.Path, last.Mode)
	}
}
