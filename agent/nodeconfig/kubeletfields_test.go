package nodeconfig

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubelet "k8s.io/kubelet/config/v1beta1"
)

var update = flag.Bool("update", false, "rewrite the table of kubelet's fields")

func TestTheTableIsThatOfKubeletsTypes(t *testing.T) {
	lines := shapeOf(reflect.TypeFor[kubelet.KubeletConfiguration](), "")
	slices.Sort(lines)
	want := "# KubeletConfiguration, kubelet.config.k8s.io/v1beta1\n" + strings.Join(lines, "\n") + "\n"
	if *update {
		if err := os.WriteFile("kubelet_fields.txt", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if kubeletFields != want {
		t.Error("kubelet_fields.txt is not what the upstream types say: run go test -update")
	}
}

// shapeOf lists "path kind" of a struct's fields as JSON has them.
func shapeOf(of reflect.Type, path string) []string {
	var lines []string
	for field := range of.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if strings.Contains(options, "inline") || name == "" {
			lines = append(lines, shapeOf(field.Type, path)...)
			continue
		}
		kind := kindOf(field.Type)
		lines = append(lines, path+name+" "+kind)
		if kind == "object" {
			lines = append(lines, shapeOf(indirect(field.Type), path+name+".")...)
		}
	}
	return lines
}

func indirect(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

func kindOf(t reflect.Type) string {
	t = indirect(t)
	if t == reflect.TypeFor[metav1.Duration]() {
		return "duration"
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return "any" // reads itself, as a quantity does
	}
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "bool"
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint32:
		return "int"
	case reflect.Float64:
		return "float"
	case reflect.Struct:
		return "object"
	case reflect.Slice:
		return "list:" + kindOf(t.Elem())
	case reflect.Map:
		return "map:" + kindOf(t.Elem())
	default:
		return fmt.Sprint("unknown ", t)
	}
}
