package apiserver

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
)

const requestsPath = "/apis/certificates.k8s.io/v1/certificatesigningrequests"

// DeniedError says that a certificate request was answered, with no. The answer stands:
// the same request asked again is the same object.
type DeniedError struct {
	Name    string
	Reason  string
	Message string
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("certificate request %s was refused: %s: %s", e.Name, e.Reason, e.Message)
}

// SignNodeCertificate files request (PEM) under name, unless it is there already, and
// waits for the certificate of a node's kubelet, in PEM. A refusal is a *DeniedError.
func (c *Client) SignNodeCertificate(ctx context.Context, name string, request []byte) ([]byte, error) {
	if err := c.file(ctx, name, request); err != nil {
		return nil, fmt.Errorf("file certificate request %s: %w", name, err)
	}
	signed, err := await(ctx, c, requestsPath, name, func(csr *certificateRequest) (bool, error) { return answered(csr, request) })
	if err != nil {
		return nil, fmt.Errorf("wait for the answer to certificate request %s: %w", name, err)
	}
	return signed.Status.Certificate, nil
}

func (c *Client) file(ctx context.Context, name string, request []byte) error {
	csr := certificateRequest{APIVersion: "certificates.k8s.io/v1", Kind: "CertificateSigningRequest"}
	csr.Metadata.Name = name
	csr.Spec.Request = request
	csr.Spec.SignerName = "kubernetes.io/kube-apiserver-client-kubelet"
	csr.Spec.Usages = []string{"digital signature", "client auth"}
	err := c.do(ctx, call{method: http.MethodPost, path: requestsPath, body: csr}, nil)
	if status := refusal(err); status != nil && status.Reason == alreadyExists {
		return nil // filed before this process was killed
	}
	if err != nil {
		return explain(err)
	}
	return nil
}

func answered(csr *certificateRequest, request []byte) (bool, error) {
	name := csr.Metadata.Name
	if !bytes.Equal(csr.Spec.Request, request) {
		return false, &DeniedError{Name: name, Reason: "NameTaken", Message: "another request has this name"}
	}
	for _, condition := range csr.Status.Conditions {
		if condition.Status == False {
			continue
		}
		if condition.Type == "Denied" || condition.Type == "Failed" {
			return false, &DeniedError{Name: name, Reason: condition.Reason, Message: condition.Message}
		}
	}
	return len(csr.Status.Certificate) > 0, nil
}
