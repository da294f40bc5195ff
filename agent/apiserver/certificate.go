package apiserver

import (
	"bytes"
	"context"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

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
	signed, err := await(ctx, c.certificates, "certificatesigningrequests", name,
		func(csr *certificatesv1.CertificateSigningRequest) (bool, error) {
			return answered(csr, request)
		})
	if err != nil {
		return nil, fmt.Errorf("wait for the answer to certificate request %s: %w", name, err)
	}
	return signed.Status.Certificate, nil
}

func (c *Client) file(ctx context.Context, name string, request []byte) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := c.certificates.Post().Resource("certificatesigningrequests").MaxRetries(0).
		Body(&certificatesv1.CertificateSigningRequest{
			TypeMeta:   metav1.TypeMeta{APIVersion: certificatesv1.SchemeGroupVersion.String(), Kind: "CertificateSigningRequest"},
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: certificatesv1.CertificateSigningRequestSpec{
				Request:    request,
				SignerName: certificatesv1.KubeAPIServerClientKubeletSignerName,
				Usages:     []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth},
			},
		}).Do(ctx).Error()
	if apierrors.IsAlreadyExists(err) {
		return nil // filed before this process was killed
	}
	if err != nil {
		return explain(err)
	}
	return nil
}

func answered(csr *certificatesv1.CertificateSigningRequest, request []byte) (bool, error) {
	if !bytes.Equal(csr.Spec.Request, request) {
		return false, &DeniedError{Name: csr.Name, Reason: "NameTaken", Message: "another request has this name"}
	}
	for _, condition := range csr.Status.Conditions {
		if condition.Status == corev1.ConditionFalse {
			continue
		}
		if condition.Type == certificatesv1.CertificateDenied || condition.Type == certificatesv1.CertificateFailed {
			return false, &DeniedError{Name: csr.Name, Reason: condition.Reason, Message: condition.Message}
		}
	}
	return len(csr.Status.Certificate) > 0, nil
}
