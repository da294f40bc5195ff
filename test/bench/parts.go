package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ovenbird-dev/ovenbird/internal/sdktest"
	"github.com/ovenbird-dev/ovenbird/lab/catalog"
	"github.com/ovenbird-dev/ovenbird/lab/endpoint"
	"github.com/ovenbird-dev/ovenbird/lab/ssm"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
	"github.com/ovenbird-dev/ovenbird/packer/ami"
	"github.com/ovenbird-dev/ovenbird/packer/image"
)

// Parts of measurements that are processes of their own.
const (
	partEndpoint = "part-endpoint"
	partSink     = "part-sink"
	partRaw      = "part-raw"
	partUpload   = "part-upload"
	partMachine  = "part-machine"
)

var parts = map[string]func(context.Context, string) error{
	partEndpoint: runEndpoint,
	partSink:     runSink,
	partRaw:      runRaw,
	partUpload:   runUpload,
	partMachine:  runMachine,
}

const benchKey, benchSecret = "AKIABENCH23456789012", "the-benchmarks-secret"

// runEndpoint answers as AWS does, and takes raw blocks at /raw/INDEX, until its standard
// input ends.
func runEndpoint(_ context.Context, dir string) error {
	plan := vpc.Default()
	c, err := catalog.Open(catalog.Options{Dir: filepath.Join(dir, "catalog"), Account: plan.Account, Regions: plan.Regions(), Now: time.Now, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer c.Close()
	store := &ssm.Store{Path: filepath.Join(dir, "parameters.json"), Catalog: c, Now: time.Now}
	if err := store.Open(); err != nil {
		return err
	}
	raw, err := os.Create(filepath.Join(dir, "raw"))
	if err != nil {
		return err
	}
	defer raw.Close()
	mux := http.NewServeMux()
	mux.Handle("/", endpoint.New(endpoint.Options{
		Plan: plan, Catalog: c, Store: store, Now: time.Now, Logger: zap.NewNop(),
		Keys: sdktest.Keys{benchKey: {AccessKeyID: benchKey, SecretAccessKey: benchSecret, ARN: plan.IAM("user/bench")}},
	}))
	mux.HandleFunc("PUT /raw/{index}", func(w http.ResponseWriter, r *http.Request) {
		index, err := strconv.ParseInt(r.PathValue("index"), 10, 64)
		if err == nil {
			_, err = io.Copy(io.NewOffsetWriter(raw, index*blockSize), r.Body)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	server := httptest.NewTLSServer(mux)
	defer server.Close()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		return err
	}
	err = json.NewEncoder(os.Stdout).Encode([]string{
		"AWS_ENDPOINT_URL=" + server.URL, "AWS_CA_BUNDLE=" + ca, "AWS_REGION=" + plan.Region, "NO_PROXY=127.0.0.1",
		"AWS_ACCESS_KEY_ID=" + benchKey, "AWS_SECRET_ACCESS_KEY=" + benchSecret, "AWS_SESSION_TOKEN=",
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
	})
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// plainClient is net/http with the endpoint's authority.
func plainClient() (*http.Client, error) {
	authority, err := os.ReadFile(os.Getenv("AWS_CA_BUNDLE"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		MaxIdleConnsPerHost: 16, WriteBufferSize: 64 << 10, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}}, nil
}

// putAll puts every second block of the disk, eight at a time, as request says.
func putAll(ctx context.Context, disk string, request func(index int, block []byte) (*http.Request, error)) error {
	f, err := os.Open(disk)
	if err != nil {
		return err
	}
	defer f.Close()
	client, err := plainClient()
	if err != nil {
		return err
	}
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for worker := range 8 {
		group.Go(func() error {
			buf := make([]byte, blockSize)
			for index := worker; index < noise; index += 8 {
				if _, err := f.ReadAt(buf, 2*int64(index)*blockSize); err != nil {
					return err
				}
				r, err := request(index, buf)
				if err != nil {
					return err
				}
				response, err := client.Do(r.WithContext(ctx))
				if err != nil {
					return err
				}
				_, _ = io.Copy(io.Discard, response.Body) // or the connection is not used again
				_ = response.Body.Close()
				if response.StatusCode/100 != 2 {
					return errors.New(response.Status)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(timing{Seconds: time.Since(began).Seconds()})
}

// runSink puts the blocks where they are only written to a file.
func runSink(ctx context.Context, disk string) error {
	return putAll(ctx, disk, func(index int, block []byte) (*http.Request, error) {
		return http.NewRequestWithContext(ctx, http.MethodPut, os.Getenv("AWS_ENDPOINT_URL")+"/raw/"+strconv.Itoa(index), bytes.NewReader(block)) //nolint:gosec // to the benchmark's own endpoint
	})
}

// runRaw puts the blocks into a snapshot: signed and with their checksums, which EBS wants,
// and with nothing else about it.
func runRaw(ctx context.Context, disk string) error {
	loaded, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	credentials, err := loaded.Credentials.Retrieve(ctx)
	if err != nil {
		return err
	}
	started, err := ebs.NewFromConfig(loaded).StartSnapshot(ctx, &ebs.StartSnapshotInput{VolumeSize: aws.Int64(2 * noise * blockSize >> 30)})
	if err != nil {
		return err
	}
	snapshot, signer := *started.SnapshotId, v4.NewSigner()
	err = putAll(ctx, disk, func(index int, block []byte) (*http.Request, error) {
		url := fmt.Sprintf("%s/snapshots/%s/blocks/%d", os.Getenv("AWS_ENDPOINT_URL"), snapshot, 2*index)
		r, err := http.NewRequestWithContext(ctx, http.MethodPut, url, bytes.NewReader(block)) //nolint:gosec // to the benchmark's own endpoint
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(block)
		r.Header.Set("X-Amz-Checksum", base64.StdEncoding.EncodeToString(sum[:]))
		r.Header.Set("X-Amz-Checksum-Algorithm", "SHA256")
		r.Header.Set("X-Amz-Data-Length", strconv.Itoa(blockSize))
		r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
		return r, signer.SignHTTP(ctx, credentials, r, "UNSIGNED-PAYLOAD", "ebs", loaded.Region, time.Now())
	})
	if err != nil {
		return err
	}
	_, err = ec2.NewFromConfig(loaded).DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: &snapshot})
	return err
}

// stages notes when the post-processor says what.
type stages struct {
	packersdk.Ui
	hashing, uploading, sent, registering time.Time
}

func (s *stages) Say(line string) {
	for start, at := range map[string]*time.Time{"Hashing": &s.hashing, "Uploading": &s.uploading, "    Uploading": &s.sent, "Registering": &s.registering} {
		if strings.HasPrefix(line, start) {
			*at = time.Now() // the last of several is that of the end
		}
	}
}

// runUpload runs the post-processor whole, as Packer does, and removes what it has made.
func runUpload(ctx context.Context, disk string) error {
	log.SetOutput(io.Discard)
	state, err := os.MkdirTemp(filepath.Dir(disk), "state-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(state)
	p := new(ami.PostProcessor)
	if err := p.Configure(map[string]any{"journal_directory": state}); err != nil {
		return err
	}
	s := &stages{}
	artifact, _, _, err := p.PostProcess(ctx, s, &packersdk.MockArtifact{BuilderIdValue: image.BuilderID, FilesValue: []string{disk}})
	if err != nil {
		return err
	}
	took := timing{Seconds: s.registering.Sub(s.hashing).Seconds(), Sending: s.sent.Sub(s.uploading).Seconds()}
	if err := artifact.Destroy(); err != nil {
		return fmt.Errorf("remove the image: %w", err)
	}
	return json.NewEncoder(os.Stdout).Encode(took)
}
