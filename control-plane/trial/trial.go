// Package trial runs the real `ovenbird serve` on loopback, with a stand-in for EC2, for
// tests and for measuring. Nothing else is faked: clusters are real, the EKS client is the
// AWS SDK's as it is.
package trial

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/eks"

	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
)

const (
	region     = "us-west-2"
	accountID  = "111122223333"
	accessKey  = "AKIAIOSFODNN7EXAMPLE"                     //nolint:gosec // from AWS's documentation
	secretKey  = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY" //nolint:gosec // likewise
	startLimit = time.Minute
)

// Site is a directory with what a service needs, and an address of its own in 127.0.0.0/8.
// Services may come and go on it, one at a time.
type Site struct {
	Binary     string   // ovenbird
	Env        []string // for it, besides the AWS endpoint
	Flags      []string // for `ovenbird serve`, besides those it needs
	Components string
	Dir        string
	Address    netip.Addr
	EKS        *eks.Client

	listen  string
	metrics string
	ec2     *httptest.Server
}

// NewSite prepares dir. Close ends the stand-in for EC2; ending services is the caller's.
func NewSite(binary, components, dir string) (*Site, error) {
	s := &Site{Binary: binary, Components: components, Dir: dir, Address: loopback()}
	spec := pki.Spec{
		Authorities: []pki.AuthorityRequest{{Name: "ca", CommonName: "trial"}},
		Leaves: []pki.Leaf{{
			Name: "eks", Authority: "ca", CommonName: "eks", IPs: []netip.Addr{s.Address}, Usage: pki.Server, Lifetime: 24 * time.Hour,
		}},
	}
	if _, err := pki.Ensure(dir, spec, time.Now()); err != nil {
		return nil, err
	}
	keys := map[string]any{"credentials": []map[string]string{{
		"accessKeyId": accessKey, "secretAccessKey": secretKey, "arn": "arn:aws:iam::" + accountID + ":user/admin",
	}}}
	data, err := json.Marshal(keys)
	if err != nil {
		return nil, fmt.Errorf("encode credentials: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "credentials.json"), data, 0o600); err != nil {
		return nil, fmt.Errorf("write credentials: %w", err)
	}
	policy := fmt.Sprintf(`{"statements":[{"principals":["arn:aws:iam::%s:user/admin"],"actions":["eks:*"],"resources":["*"]}]}`, accountID)
	if err := os.WriteFile(filepath.Join(dir, "policy.json"), []byte(policy), 0o600); err != nil {
		return nil, fmt.Errorf("write policy: %w", err)
	}
	if s.listen, s.metrics, err = freePorts(s.Address); err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("read authority: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	s.EKS = eks.New(eks.Options{
		Region: region, BaseEndpoint: aws.String("https://" + s.listen),
		Credentials: credentials.NewStaticCredentialsProvider(accessKey, secretKey, ""),
		HTTPClient:  &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}}},
	})
	s.ec2 = httptest.NewServer(http.HandlerFunc(answerEC2))
	return s, nil
}

// MetricsURL is where a running service tells its figures.
func (s *Site) MetricsURL() string { return "http://" + s.metrics + "/metrics" }

// Close ends the stand-in for EC2.
func (s *Site) Close() { s.ec2.Close() }

// StateDir is where the service keeps everything.
func (s *Site) StateDir() string { return filepath.Join(s.Dir, "state") }

// Command returns a call of ovenbird with what it needs in its environment.
func (s *Site) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.Binary, args...)
	cmd.Env = append(append(os.Environ(), s.Env...),
		"AWS_ENDPOINT_URL="+s.ec2.URL, "AWS_ACCESS_KEY_ID="+accessKey, "AWS_SECRET_ACCESS_KEY="+secretKey,
		"AWS_EC2_METADATA_DISABLED=true", "HTTPS_PROXY=", "HTTP_PROXY=")
	return cmd
}

// Service is a running `ovenbird serve`.
type Service struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Serve starts the service and returns when it says that it is ready. Its log goes to log.
func (s *Site) Serve(ctx context.Context, log io.Writer) (*Service, error) {
	cmd := s.Command(context.WithoutCancel(ctx), append([]string{"serve", "--listen", s.listen, "--metrics-listen", s.metrics, "--advertise-address", s.Address.String(),
		"--tls-cert", filepath.Join(s.Dir, "eks.pem"), "--tls-key", filepath.Join(s.Dir, "eks.pem"),
		"--region", region, "--account-id", accountID, "--state-dir", s.StateDir(),
		"--components", s.Components, "--credentials", filepath.Join(s.Dir, "credentials.json"),
		"--policy", filepath.Join(s.Dir, "policy.json")}, s.Flags...)...)
	output, err := cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("start the service: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the service: %w", err)
	}
	service := &Service{cmd: cmd, done: make(chan struct{})}
	ready := make(chan struct{})
	go func() {
		defer close(service.done)
		said := false
		for lines := bufio.NewScanner(output); lines.Scan(); {
			_, _ = fmt.Fprintln(log, lines.Text())
			if !said && strings.Contains(lines.Text(), `"msg":"ready"`) {
				said = true
				close(ready)
			}
		}
		service.err = cmd.Wait()
	}()
	timer := time.NewTimer(startLimit)
	defer timer.Stop()
	select {
	case <-ready:
		return service, nil
	case <-service.done:
		return nil, fmt.Errorf("the service ended: %w", service.err)
	case <-timer.C:
	case <-ctx.Done():
	}
	_ = service.Signal(os.Kill)
	return nil, fmt.Errorf("the service was not ready within %s", startLimit)
}

// Signal sends a signal and waits until the service has ended.
func (s *Service) Signal(signal os.Signal) error {
	if err := s.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("signal the service: %w", err)
	}
	<-s.done
	return s.err
}

// loopback draws an address at random, so that trials at the same time do not meet.
func loopback() netip.Addr {
	return netip.AddrFrom4([4]byte{127, byte(1 + rand.N(250)), byte(rand.N(250)), byte(1 + rand.N(250))})
}

// freePorts returns two; the first is still taken while the second is chosen.
func freePorts(address netip.Addr) (one, other string, err error) {
	anyPort := net.TCPAddrFromAddrPort(netip.AddrPortFrom(address, 0))
	first, err := net.ListenTCP("tcp", anyPort)
	if err != nil {
		return "", "", fmt.Errorf("find a port: %w", err)
	}
	defer first.Close()
	second, err := net.ListenTCP("tcp", anyPort)
	if err != nil {
		return "", "", fmt.Errorf("find a port: %w", err)
	}
	defer second.Close()
	return first.Addr().String(), second.Addr().String(), nil
}
