// descant.v1.AdapterService.
#ifndef DESCANT_SERVER_ADAPTER_SERVICE_H_
#define DESCANT_SERVER_ADAPTER_SERVICE_H_

#include "descant/v1/adapter.grpc.pb.h"
#include "server/edge_context.h"

namespace descant {

class AdapterService final : public v1::AdapterService::CallbackService {
 public:
  explicit AdapterService(EdgeContext* edge) : edge_(edge) {}

  grpc::ServerReadReactor<v1::UploadAdapterRequest>* UploadAdapter(
      grpc::CallbackServerContext* context,
      v1::UploadAdapterResponse* response) override;
  grpc::ServerUnaryReactor* QueryUpload(
      grpc::CallbackServerContext* context,
      const v1::QueryUploadRequest* request,
      v1::QueryUploadResponse* response) override;
  grpc::ServerUnaryReactor* GetAdapter(
      grpc::CallbackServerContext* context,
      const v1::GetAdapterRequest* request,
      v1::GetAdapterResponse* response) override;
  grpc::ServerUnaryReactor* ListAdapters(
      grpc::CallbackServerContext* context,
      const v1::ListAdaptersRequest* request,
      v1::ListAdaptersResponse* response) override;
  grpc::ServerUnaryReactor* DeleteAdapter(
      grpc::CallbackServerContext* context,
      const v1::DeleteAdapterRequest* request,
      v1::DeleteAdapterResponse* response) override;
  grpc::ServerUnaryReactor* RollbackAdapter(
      grpc::CallbackServerContext* context,
      const v1::RollbackAdapterRequest* request,
      v1::RollbackAdapterResponse* response) override;
  grpc::ServerWriteReactor<v1::DownloadAdapterResponse>* DownloadAdapter(
      grpc::CallbackServerContext* context,
      const v1::DownloadAdapterRequest* request) override;
  grpc::ServerUnaryReactor* ShareAdapter(
      grpc::CallbackServerContext* context,
      const v1::ShareAdapterRequest* request,
      v1::ShareAdapterResponse* response) override;
  grpc::ServerWriteReactor<v1::WatchAdaptersResponse>* WatchAdapters(
      grpc::CallbackServerContext* context,
      const v1::WatchAdaptersRequest* request) override;

 private:
  EdgeContext* const edge_;
};

}  // namespace descant

#endif  // DESCANT_SERVER_ADAPTER_SERVICE_H_
