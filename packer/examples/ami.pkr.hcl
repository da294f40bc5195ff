packer {
  required_plugins {
    ovenbird = {
      version = ">= 0.1.0"
      source  = "github.com/ovenbird-dev/ovenbird"
    }
  }
}

source "ovenbird-image" "node" {
  output_directory = "out"
}

build {
  sources = ["source.ovenbird-image.node"]

  post-processor "ovenbird-ami" {
    region        = "eu-central-1"
    ami_name      = "node-{{.Content}}-{{timestamp}}"
    ami_regions   = ["us-east-1"]
    ami_users     = ["123456789012"]
    deprecate_at  = "90d"
    ssm_parameter = "/nodes/{{.Channel}}/image_id"
    tags = {
      team = "platform"
    }
  }
}
