package template

import (
	"reflect"
	"strings"
	"testing"
)

func TestShortFormsBecomeLongOnesAndOrderIsKept(t *testing.T) {
	got, err := Parse([]byte(`
Description: a bucket
Parameters:
  Zebra: {Type: Number, Default: 3, MinValue: 1}
  Ant: {Type: CommaDelimitedList, Default: ''}
Conditions:
  Both: !And [!Condition First, !Equals [!Ref Zebra, 3]]
Resources:
  # What is kept,
  # for long.
  Bucket:
    Type: AWS::S3::Bucket
    Condition: Both
    Properties:
      BucketName: !Sub ${Zebra}-x
      Tags: !If [Both, [{Key: arn, Value: !GetAtt Other.Arn}], !Ref AWS::NoValue]
Outputs:
  Name: {Description: its name, Value: !Ref Bucket, Export: {Name: !Sub 'x-Name'}}
`))
	if err != nil {
		t.Fatal(err)
	}
	if got.Parameters[0].Name != "Zebra" || *got.Parameters[0].Default != "3" || *got.Parameters[0].MinValue != 1 || !got.Parameters[1].IsList() || *got.Parameters[1].Default != "" {
		t.Errorf("the parameters are %+v", got.Parameters)
	}
	bucket, _ := got.Resource("Bucket")
	want := Resource{Name: "Bucket", Type: "AWS::S3::Bucket", Condition: "Both", Comment: "What is kept, for long.", Body: map[string]any{
		"Type": "AWS::S3::Bucket", "Condition": "Both", "Properties": map[string]any{
			"BucketName": map[string]any{"Fn::Sub": "${Zebra}-x"},
			"Tags": map[string]any{"Fn::If": []any{
				"Both", []any{map[string]any{"Key": "arn", "Value": map[string]any{"Fn::GetAtt": []any{"Other", "Arn"}}}}, map[string]any{"Ref": "AWS::NoValue"},
			}},
		},
	}}
	if !reflect.DeepEqual(bucket, want) {
		t.Errorf("the bucket is %+v, want %+v", bucket, want)
	}
	condition := map[string]any{"Fn::And": []any{map[string]any{"Condition": "First"}, map[string]any{"Fn::Equals": []any{map[string]any{"Ref": "Zebra"}, 3}}}}
	if !reflect.DeepEqual(got.Conditions, []Named{{Name: "Both", Body: condition}}) {
		t.Errorf("the conditions are %v", got.Conditions)
	}
	if out := got.Outputs[0]; out.Name != "Name" || out.Description != "its name" || !reflect.DeepEqual(out.Export, map[string]any{"Fn::Sub": "x-Name"}) {
		t.Errorf("the output is %+v", out)
	}
}

func TestWhatNoTemplateHasIsRefused(t *testing.T) {
	for body, want := range map[string]string{
		"[]":                                 "no mapping",
		"Transform: AWS::Serverless":         "no section Transform",
		"Resources: {A: {Type: x, Type: y}}": "twice",
		"Resources: {A: 3}":                  "no mapping",
		"Description: &a x\nMetadata: *a":    "aliases",
		"Metadata: {a: null}":                "null",
		"Parameters: {A: {Type: [x]}}":       "parameter A",
		"Parameters: [":                      "yaml",
	} {
		if _, err := Parse([]byte(body)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", body, err, want)
		}
	}
}
