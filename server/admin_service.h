// descant.v1.AdminService: for operators, on a listener of its own.
#ifndef DESCANT_SERVER_ADMIN_SERVICE_H_
#define DESCANT_SERVER_ADMIN_SERVICE_H_

#include "descant/v1/admin.grpc.pb.h"
#include "server/edge_context.h"

namespace descant {

class AdminService final : public v1::AdminService::CallbackService {
 public:
  explicit AdminService(EdgeContext* edge)
      : edge_(edge), start_(edge->clock->Now()) {}

  grpc::ServerUnaryReactor* GetStats(grpc::CallbackServerContext* context,
                                     const v1::GetStatsRequest* request,
                                     v1::GetStatsResponse* response) override;
  grpc::ServerUnaryReactor* LoadAdapter(
      grpc::CallbackServerContext* context,
      const v1::LoadAdapterRequest* request,
      v1::LoadAdapterResponse* response) override;
  grpc::ServerUnaryReactor* UnloadAdapter(
      grpc::CallbackServerContext* context,
      const v1::UnloadAdapterRequest* request,
      v1::UnloadAdapterResponse* response) override;
  grpc::ServerUnaryReactor* PinAdapter(
      grpc::CallbackServerContext* context,
      const v1::PinAdapterRequest* request,
      v1::PinAdapterResponse* response) override;
  grpc::ServerWriteReactor<v1::VerifyStoreResponse>* VerifyStore(
      grpc::CallbackServerContext* context,
      const v1::VerifyStoreRequest* request) override;
  grpc::ServerUnaryReactor* ListMerges(
      grpc::CallbackServerContext* context,
      const v1::ListMergesRequest* request,
      v1::ListMergesResponse* response) override;
  grpc::ServerUnaryReactor* SetMergeMode(
      grpc::CallbackServerContext* context,
      const v1::SetMergeModeRequest* request,
      v1::SetMergeModeResponse* response) override;

 private:
  EdgeContext* const edge_;
  const MonotonicTime start_;
};

}  // namespace descant

#endif  // DESCANT_SERVER_ADMIN_SERVICE_H_
